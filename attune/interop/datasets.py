"""Other tools' data sets as `data.path`: local files stay, hub names become a folder the user downloads to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from attune.interop.base import Draft
from attune.interop.document import Given, Unread
from attune.recipe import Source

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
class Part:
    """One data set: where it stands here, and what is its own."""

    path: str
    given: Given
    how: str
    near: bool
    format: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    weight: float | None = None

    @property
    def own(self) -> tuple[object, ...]:
        return self.format, self.columns, self.weight


@dataclass
class Sets:
    """The data sets of one recipe: one list of paths, or tasks of their own where formats or columns differ."""

    draft: Draft
    parts: list[Part] = field(default_factory=list)
    formats: list[tuple[Given, str, str]] = field(default_factory=list)
    """The key that said a format, our name of it, and how exact that is (empty where it is the same thing)."""

    def add(
        self, given: Given, name: str | None = None, *, hub: str = "huggingface", how: str = "", near: bool = False
    ) -> Part | None:
        """One data set, named by a key. `near`: it is not quite the same rows, as `how` says."""
        if isinstance(given.value, Unread):
            if "data.path" not in self.draft.fill_in:
                self.draft.need("data.path", "your training data")
            self.draft.drop(given, f"its value is known only when the file runs: {given.value.text}")
            return None
        path = located(self.draft, name if name is not None else str(given.value), hub)
        self.parts.append(Part(path, given, how, near))
        return self.parts[-1]

    def finish(self) -> None:
        """Write `data.path`, `data.format` and `data.columns`."""
        draft, parts = self.draft, self.parts
        alike = all(part.own == parts[0].own for part in parts)
        paths = list(dict.fromkeys(part.path for part in parts))
        value: Any = paths[0] if len(paths) == 1 else paths
        if not alike:
            value = self._tasks()
        for given in {id(part.given): part.given for part in parts}.values():
            mine = [part for part in parts if part.given is given]
            how = mine[-1].how
            if "data.path" in draft.fill_in or any(part.near for part in mine):
                how = how or "a data set of the hub becomes a folder you download it to"
                draft.near(given, "data.path", value, how)
            else:
                draft.map(given, "data.path", value, how)
        if not parts:
            draft.values["data.path"] = "data/train.jsonl"
            draft.need("data.path", "your training data: the file names none that attune can read")
        elif alike:
            if parts[0].format:
                draft.values["data.format"] = parts[0].format
            if parts[0].columns:
                draft.values["data.columns"] = parts[0].columns
        for given, ours, how in self.formats:
            to = "data.format" if alike else None
            if how:
                draft.near(given, to, ours, how)
            else:
                draft.map(given, to, ours, "" if alike else f"format: {ours}, beside its path")

    def _tasks(self) -> list[dict[str, Any]]:
        """`path` as a list of tasks, each with what is its own and a name that no other has."""
        tasks: list[dict[str, Any]] = []
        names: list[str] = []
        for part in self.parts:
            own = {"format": part.format, "columns": part.columns or None, "weight": part.weight}
            task = {"path": part.path, **{key: value for key, value in own.items() if value is not None}}
            title = Source.model_validate(task).title
            if title in names:
                task["name"] = f"{title[:44]}-{len(names) + 1}"
            names.append(str(task.get("name", title)))
            tasks.append(task)
        held = self.draft.values.pop("data.validation", None)
        if held is not None:
            tasks[0]["validation"] = held
        return tasks
