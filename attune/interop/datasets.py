"""Other tools' data sets as `data.path`: local files stay, hub names become a folder the user downloads to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from attune.interop.base import Draft
from attune.interop.document import Given, Unread

__all__ = ["Sets", "located"]

LOCAL = re.compile(r"\.(jsonl?|csv|tsv|parquet|txt|md|conll|bio|ndjson)(\.(gz|zst))?$", re.I)


def located(draft: Draft, name: str, hub: str = "huggingface") -> str:
    """Where the data stands here: a local path as it is, a hub name as a folder, with the command that fills it."""
    if LOCAL.search(name) or name.startswith(("./", "../", "/", "~")) or name.endswith("/"):
        return name
    folder = "data/" + re.sub(r"[^\w.-]+", "-", name.split("/")[-1])
    command = (
        f"modelscope download --dataset {name} --local_dir {folder}"
        if hub == "modelscope"
        else f"hf download {name} --repo-type dataset --local-dir {folder}"
    )
    safe = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)
    draft.need("data.path", f"{folder} is to hold {name}" + (f": {command}" if safe else ""))
    return folder


@dataclass
class Sets:
    """The data sets of one recipe, put together: paths as a list, and one format for all of them."""

    draft: Draft
    paths: list[str] = field(default_factory=list)
    givens: list[Given] = field(default_factory=list)
    hows: list[str] = field(default_factory=list)
    inexact: list[Given] = field(default_factory=list)
    formats: list[tuple[Given, str, str]] = field(default_factory=list)
    """The key that said it, our format, and how exact that is (empty where it is the same thing)."""

    def add(
        self, given: Given, name: str | None = None, *, hub: str = "huggingface", how: str = "", near: bool = False
    ) -> None:
        """One data set, named by a key. `near`: it is not quite the same rows, as `how` says."""
        if isinstance(given.value, Unread):
            if "data.path" not in self.draft.fill_in:
                self.draft.need("data.path", "your training data")
            self.draft.drop(given, f"its value is known only when the file runs: {given.value.text}")
            return
        self.paths.append(located(self.draft, name if name is not None else str(given.value), hub))
        if not any(given is other for other in self.givens):
            self.givens.append(given)
            self.hows.append(how)
        if near:
            self.inexact.append(given)
            self.hows[next(n for n, one in enumerate(self.givens) if one is given)] = how

    def finish(self) -> None:
        """Write `data.path` and `data.format`."""
        draft = self.draft
        paths = list(dict.fromkeys(self.paths))
        value: str | list[str] = paths[0] if len(paths) == 1 else paths
        for given, how in zip(self.givens, self.hows):
            if "data.path" in draft.fill_in or any(given is other for other in self.inexact):
                how = how or "a data set of the hub becomes a folder you download it to"
                draft.near(given, "data.path", value, how)
            else:
                draft.map(given, "data.path", value, how)
        if not paths:
            draft.values["data.path"] = "data/train.jsonl"
            draft.need("data.path", "your training data: the file names none that attune can read")
        kinds = {ours for _, ours, _ in self.formats}
        for given, ours, how in self.formats:
            if len(kinds) > 1:
                mixed = f"the data sets differ ({', '.join(sorted(kinds))}); the format is recognised from the rows"
                draft.near(given, "data.format", "auto", mixed)
            elif how:
                draft.near(given, "data.format", ours, how)
            else:
                draft.map(given, "data.format", ours)
