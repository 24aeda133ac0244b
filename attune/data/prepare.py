"""The data stage up to records: files -> records -> splits, with a manifest of what was read, left out and why."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.data import desk
from attune.data.sources import How, Loaded, Spooled, load_records, spool_records
from attune.data.split import Split, split
from attune.data.spool import Chosen, spooled
from attune.data.steps import Context
from attune.data.suppress import Suppression
from attune.data.templates.base import NAME, SCHEMA, WORDS
from attune.data.templating import as_written_task, schema_of
from attune.errors import DataError, RecipeError, UsageError
from attune.records import LABEL_TASKS, rows_hash

if TYPE_CHECKING:
    from attune.recipe import Recipe
    from attune.records import Record

__all__ = ["Read", "accepted", "read"]

OWN_SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass
class Read:
    """Records of every split, and the facts about them."""

    task: str
    split: Split
    manifest: dict[str, Any]
    notices: list[str] = field(default_factory=list)
    prepared: desk.Prepared | None = None
    """Where the parts lie after the steps of `data.prepare`; None without steps."""


def read(
    recipe: Recipe,
    *,
    prepared: Path,
    ledger: Path | None = None,
    rejects: Path | None = None,
    usual: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Read:
    """Read and divide the data that a recipe names, and put it through the steps of `data.prepare`. Needs no model.

    `prepared` is the folder where prepared data is kept by address; `usual` are the steps where the recipe names none
    (those that fit the task).
    Raises: DataError with file:line:column.
    """
    data = recipe.data
    if data.sources:
        raise RecipeError(
            "data.path lists several tasks, and this looks at one body of data",
            where=recipe.where("data.path"),
            fix="name one task's own path; `attune train` takes them all",
        )
    started = time.monotonic()
    notices: list[str] = []
    # A list where the records fit into memory anyway, since a model will train on them; else they stay on disk.
    scratch = prepared / f".tmp-read-{os.getpid()}" if data.prepare or usual else None
    try:
        loaded = _load(recipe, data.paths, data.task, scratch and scratch / "train.jsonl", rejects, notices, say)
        task = loaded.task
        notices.insert(0, loaded.why)
        given = {
            name: _load(recipe, path, task, scratch and scratch / f"{name}.jsonl", rejects, notices, say)
            for name, path in (("test", data.test), ("validation", data.validation))
            if path
        }
        return _divide(recipe, loaded, given, task, notices, started, prepared, ledger, usual, say)
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _load(
    recipe: Recipe,
    path: str | list[str],
    task: str,
    spool: Path | None,
    rejects: Path | None,
    notices: list[str],
    say: Callable[[str], None],
) -> Loaded | Spooled:
    """One file's records: in memory, or in the file `spool`."""
    data = recipe.data
    options: How = {
        "format": data.format,
        "columns": dict(data.columns),
        "target": data.target,
        "task": None if task == "auto" else task,
        "on_bad_row": data.on_bad_row,
        "max_drop": data.max_drop,
        "rejects": rejects,
    }
    loaded: Any = load_records(path, **options) if spool is None else spool_records(path, spool, say=say, **options)
    if data.suppression is not None:
        forgotten = Suppression.load(data.suppression)
        known = [record for record in loaded.records if not forgotten.holds(record.to_dict())]
        if left := len(loaded.records) - len(known):
            notices.append(f"{left:,} rows of forgotten people left out ({data.suppression})")
            loaded.records = known if spool is None else spooled(known, spool.with_suffix(".known"))
    if loaded.task not in (*LABEL_TASKS, "generation", "text"):
        answers = (answer for record in loaded.records if (answer := _best_answer(record)) is not None)
        found = list(answers) if spool is None else spooled(answers, spool.with_suffix(".best"))
        if not found:
            raise DataError(f"this looks like {loaded.task} data without any answer to train on", why=loaded.why)
        notices.append(f"{loaded.task} data: the better (or good) answer of each of {len(found)} rows is the answer")
        loaded.task, loaded.records = "generation", found
    if loaded.task == "generation":
        fitting = as_written_task(
            loaded.records,
            loaded,
            template=data.template,
            instruction=data.instruction,
            schema=schema_of(recipe),
            skip=data.on_bad_row == "skip",
            notices=notices,
        )
        loaded.records = list(fitting) if spool is None else spooled(fitting, spool.with_suffix(".task"))
    return loaded


def _own_splits(records: Sequence[Record]) -> dict[str, Sequence[Record]]:
    """The parts that a file names itself; empty if it names none. CLINC150 calls its out-of-scope parts oos_train,
    oos_val and oos_test."""
    names = [str(record.meta.get("split")).rsplit("_", 1)[-1] for record in records]
    if len(set(names)) < 2 or not all(name in OWN_SPLITS for name in set(names)):
        return {}
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(OWN_SPLITS[name], []).append(row)
    on_disk = not isinstance(records, list)
    return {
        name: Chosen(records, np.array(chosen)) if on_disk else [records[row] for row in chosen]
        for name, chosen in rows.items()
    }


def _divide(
    recipe: Recipe,
    loaded: Loaded | Spooled,
    given: dict[str, Loaded | Spooled],
    task: str,
    notices: list[str],
    started: float,
    prepared: Path,
    ledger: Path | None,
    usual: Sequence[str],
    say: Callable[[str], None],
) -> Read:
    data = recipe.data
    records: Sequence[Record] = loaded.records
    parts: dict[str, Sequence[Record] | None] = {
        name: given[name].records if name in given else None for name in ("test", "validation")
    }
    if not given and (own := _own_splits(records)):
        records, parts = own.get("train", []), {name: own.get(name) for name in ("test", "validation")}
        counts = ", ".join(f"{name} {len(rows)}" for name, rows in own.items())
        notices.append(f"the file names its own splits: {counts}")
    label_task = task in ("classification", "multilabel")
    divided = split(
        records,
        validation=data.split.validation,
        test=0.0 if parts["test"] is not None else data.split.test,
        stratify=data.split.stratify and label_task,
        group=data.split.group,
        seed=recipe.seed,
        ledger=ledger,
        given_test=parts["test"],
        given_validation=parts["validation"],
        leakage=data.leakage,
        near=data.split.near,
        say=say,
    )
    sources = [asdict(source) for found in (loaded, *given.values()) for source in found.sources]
    manifest = {
        "task": task,
        "format": loaded.format,
        "why": loaded.why,
        "sources": sources,
        "counts": loaded.counts,
        "splits": {"train": len(divided.train), "validation": len(divided.validation), "test": len(divided.test)},
        "split": divided.statement,
        "excluded": divided.statement["excluded"],
        "held_out": {
            name: rows_hash(rows)
            for name, rows in (("validation", divided.validation), ("test", divided.test))
            if len(rows)
        },
        "seconds": round(time.monotonic() - started, 2),
    }
    manifest |= {f"{name}_counts": found.counts for name, found in given.items()}
    made = None
    if usual and not data.prepare:
        recipe = recipe.replace({"data.prepare": [name for name in usual if desk.fits(name, task)]})
    if recipe.data.prepare:
        made = _at_desk(recipe, task, divided, sources, prepared, say)
        train, held, test = (made.parts[name] for name in desk.PARTS)
        divided = replace(divided, train=train, validation=held, test=test)
        manifest["splits"] = made.facts["rows"]
        manifest["prepared"] = {"folder": str(made.folder), **made.facts}
    return Read(task, divided, manifest, notices, made)


def accepted(recipe: Recipe, steps: list[dict[str, Any]], wanted: Sequence[str]) -> Recipe:
    """The recipe in which the named steps have the options that their questions proposed.

    Raises: UsageError if a named step asked nothing.
    """
    proposed = {row["step"]: question["options"] for row in steps for question in row.get("questions", ())}
    for name in wanted:
        if name not in proposed:
            asking = ", ".join(sorted(proposed)) or "none"
            raise UsageError(f"step '{name}' asked nothing", fix=f"steps that asked: {asking}")
    choices = [
        {choice.name: proposed[choice.name]} if choice.name in wanted else choice.model_dump(mode="json")
        for choice in recipe.data.prepare
    ]
    return recipe.replace({"data.prepare": choices})


def _at_desk(
    recipe: Recipe,
    task: str,
    divided: Split,
    sources: list[dict[str, Any]],
    root: Path,
    say: Callable[[str], None],
) -> desk.Prepared:
    """The parts of a split after the steps of `data.prepare`."""
    parts = {"train": divided.train, "validation": divided.validation, "test": divided.test}
    reading = {"format", "columns", "target", "on_bad_row", "max_drop"}
    identity = {
        "sources": [{key: source[key] for key in ("sha256", "rows", "licence")} for source in sources],
        "read": recipe.data.model_dump(mode="json", include=reading),
        "split": {
            name: hashlib.sha256("\n".join(map(_named, records)).encode("utf-8", "surrogatepass")).hexdigest()
            for name, records in parts.items()
        },
    }
    context = Context(task=task, seed=recipe.seed, journal=root / "journal")
    return desk.prepare_parts(parts, recipe.data.prepare, context, root=root, identity=identity, say=say)


def _named(record: Record) -> str:
    """What tells a record from any other that the same sources may give: its id, and what a template adds to it."""
    added = {key: record.meta[key] for key in (NAME, SCHEMA, WORDS) if key in record.meta}
    return f"{record.id} {json.dumps(added, sort_keys=True)}" if added else record.id


def _best_answer(record: Record) -> Record | None:
    """The record with its best answer alone (completions come best first); None if it has none that is good."""
    if not record.completions or record.completions[0].good is False:
        return None
    return replace(record, completions=record.completions[:1])
