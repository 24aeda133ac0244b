"""Pairs of sentences under the names of their languages."""

from __future__ import annotations

from typing import Any

from attune.data.formats.base import Bad, Drop, Format, Mapping, make
from attune.data.rows import Where
from attune.data.templates.translate import LANGUAGES
from attune.records import Completion, Message, Record

SIDES = ("source", "target")


class Translation(Format):
    """`{"translation": {"de": text, "en": text}}` or `{"de": text, "en": text}`: from the first to the second

    `data.columns: {source: en, target: de}` turns the direction round, or chooses two of several languages.
    """

    name = "translation"
    task = "generation"

    def sniff(self, row: dict[str, Any]) -> int:
        inner = row.get("translation")
        if isinstance(inner, dict) and len(_languages(inner)) >= 2:
            return 60
        languages = _languages(row)
        return 35 if len(languages) == 2 and all(isinstance(row[name], str) for name in languages) else 0

    def read(self, row: dict[str, Any], where: Where, mapping: Mapping) -> Record:
        pair = row.get("translation", row)
        if not isinstance(pair, dict):
            raise Bad("translation is not an object of texts by language")
        names = [mapping.columns.get(side, "") for side in SIDES]
        # The user's names arrive as ours where they are columns of the row itself.
        texts: dict[str, Any] = {name: pair.get(name, row.get(side)) for side, name in zip(SIDES, names) if name}
        if not all(names):
            names = _languages(pair)[:2]
            texts = {name: pair[name] for name in names}
        if len(names) < 2:
            raise Bad("two languages are meant, such as de and en")
        for name in names:
            if texts[name] is None or not str(texts[name]).strip():
                raise Drop(f"{name} is empty")
            if not isinstance(texts[name], str):
                raise Bad(f"{name} is not a text")
        answer = Completion((Message("assistant", texts[names[1]]),))
        used = ("translation", "source", "target", *_languages(pair))
        meta = {"source_lang": names[0], "target_lang": names[1]}
        return make(row, where, used, prompt=(Message("user", texts[names[0]]),), completions=(answer,), meta=meta)


def _languages(row: dict[str, Any]) -> list[str]:
    """Columns that are language codes, in their order."""
    return [name for name in row if name.lower().split("_")[0].split("-")[0] in LANGUAGES]
