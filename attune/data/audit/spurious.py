"""Words that give a label away: a model may learn the word instead of the meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attune.data.audit.association import Association, associations
from attune.data.audit.terms import function_words, group_words
from attune.data.audit.view import Section, View, finding, label_sets, words

__all__ = ["spurious"]

SHOWN = 30
PER_LABEL = 3
LABELS_SHOWN = 30
EXAMPLES = 2
GIVES_AWAY, COVERS = 0.9, 0.2
"""A word is a give-away if this share of its rows have the label, and this share of the label's rows have the word."""
LIFT = 1.5
SPOKEN = 0.05
"""Share of rows from which a language's lists are used: another language's function words are words like others."""


def spurious(view: View) -> Section:
    if view.task not in ("classification", "multilabel", "regression"):
        return {"skipped": f"not for {view.task} data: there is no label of a whole text"}
    labels, note = label_sets(view)
    rows = [row for row, names in enumerate(labels) if names]
    classes = [labels[row] for row in rows]
    if len({name for row in classes for name in row}) < 2:
        return {"skipped": "there are fewer than two classes"}
    found = associations([view.train_words[row] for row in rows], classes)
    spoken = tuple(
        name for name in view.options.languages if view.train_languages.count(name) >= SPOKEN * len(view.train)
    )
    plain, groups = function_words(spoken), group_words(spoken)
    suspicious: list[dict[str, Any]] = []
    strongest: list[dict[str, Any]] = []
    shown_of: dict[str, int] = {}
    for one in found:
        kind = _kind(one, plain, groups)
        if kind and one.hits / one.rows >= LIFT * one.label_rows / len(rows) and len(suspicious) < SHOWN:
            suspicious.append(_row(one, kind, view, rows, classes))
        elif not kind and shown_of.get(one.label, 0) < PER_LABEL:
            shown_of[one.label] = shown_of.get(one.label, 0) + 1
            if len(shown_of) <= LABELS_SHOWN:
                strongest.append(_row(one, "content word", view, rows, classes))
    strongest.sort(key=lambda row: row["label"])
    notes = []
    if suspicious:
        some = ", ".join(f"'{row['word']}' for {row['label']}" for row in suspicious[:3])
        notes.append(finding("note", f"{len(suspicious)} words may be short cuts to a label: {some}"))
    return {
        "pairs": len(found),
        "rows": len(rows),
        "note": note,
        "suspicious": suspicious,
        "strongest": strongest,
        "findings": notes,
    }


def _kind(one: Association, plain: frozenset[str], groups: frozenset[str]) -> str:
    """Why a word should not decide; nothing if it may well be what the label means."""
    if one.word in groups:
        return "names a group of people"
    if any(_related(one.word, part) for part in words(one.label.replace("_", " "))):
        return ""
    if one.word.isdigit():
        return "number"
    if one.word in plain:
        return "function word"
    if one.hits / one.rows >= GIVES_AWAY and one.hits / one.label_rows >= COVERS:
        return "gives the label away"
    return ""


def _related(a: str, b: str) -> bool:
    """The same word, or two forms of one: deposited, deposit."""
    return a == b or (min(len(a), len(b)) >= 4 and (a.startswith(b[:5]) or b.startswith(a[:5])))


def _row(
    one: Association, kind: str, view: View, rows: Sequence[int], classes: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    examples = []
    for row, names in zip(rows, classes):
        if one.label in names and one.word in view.train_words[row]:
            examples.append(view.shown(view.train[row], around=one.word))
            if len(examples) == EXAMPLES:
                break
    return {
        "word": one.word,
        "label": one.label,
        "kind": kind,
        "rows": one.rows,
        "share": round(one.hits / one.rows, 4),
        "usual": round(one.label_rows / len(rows), 4),
        "z": one.z,
        "p": one.p,
        "examples": examples,
    }
