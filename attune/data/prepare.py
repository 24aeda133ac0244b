"""The data stage: files -> records -> splits -> token ids, with a manifest of what was read, left out and why."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attune import plugins
from attune.data import desk
from attune.data.examples import Example, ExampleStore
from attune.data.mix import Mix
from attune.data.render import Renderer
from attune.data.seq2seq import renderer_for
from attune.data.sources import How, Loaded, Spooled, load_records, spool_records
from attune.data.split import Split, split
from attune.data.spool import Chosen, spooled
from attune.data.steps import Context
from attune.data.suppress import Suppression
from attune.data.templates.base import wrapped
from attune.data.templating import as_written_task, schema_of, template_of
from attune.data.written import WRITABLE, instruction_for, written
from attune.errors import DataError, RecipeError, UsageError
from attune.records import rows_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.records import Record

__all__ = ["Read", "Prepared", "read", "labels_of", "kinds_of", "render", "Windows"]

LABEL_TASKS = ("classification", "multilabel", "regression", "tagging")
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


@dataclass
class Prepared:
    """What training and evaluation run on."""

    task: str
    labels: list[str]
    train: list[Record]
    validation: list[Record]
    test: list[Record]
    clean_test_ids: list[str]
    stores: dict[str, Any]
    """train, validation, test -> ExampleStore (or Windows over a corpus)."""
    renderer: Renderer
    manifest: dict[str, Any]
    show: Callable[[int], str]
    """n training examples as text, the supervised part marked."""
    instruction: str | None = None
    """What stands before each text, where a language model learns the task."""
    tasks: dict[str, Prepared] = field(default_factory=dict)
    """Each of several tasks by its name; `train`, `validation` and `test` are then those of all."""
    mix: Mix | None = None
    """How several tasks share the steps."""

    def asked(self, record: Record) -> Record:
        """The record as the model sees it: labels as text where a language model learns them."""
        return record if self.instruction is None else written(record, self.instruction)


class Windows:
    """Rows of a memory-mapped token corpus as Examples: every token but a row's first is scored.

    Shapes: rows [N, T].
    """

    def __init__(self, rows: np.ndarray, columns: Mapping[str, np.ndarray] | None = None):
        self.rows, self.columns = rows, dict(columns or {})
        self.lengths: np.ndarray = np.full(len(rows), rows.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        weight = np.ones(self.rows.shape[1], dtype=np.float32)
        weight[0] = 0
        found = Example(ids=self.rows[index].astype(np.int32), weight=weight, target=None, record=index)
        part = slice(int(self.scored[index]), int(self.scored[index + 1]))
        found.columns = {name: np.asarray(values[part]) for name, values in self.columns.items()}
        return found

    @property
    def scored(self) -> np.ndarray:
        """[N + 1] where each row's scored tokens lie among those of all; cuts `columns`."""
        return np.arange(len(self.rows) + 1) * (self.rows.shape[1] - 1)

    def with_columns(self, columns: Mapping[str, np.ndarray]) -> Windows:
        """The same rows with further values at their scored tokens. Shapes: columns [M, ...]."""
        return Windows(self.rows, {**self.columns, **columns})

    @property
    def content_hash(self) -> str:
        digest = hashlib.sha256(f"windows-{self.rows.shape[0]}x{self.rows.shape[1]}".encode())
        for array in (self.rows, *(self.columns[name] for name in sorted(self.columns))):
            for start in range(0, len(array), 4096):
                digest.update(np.ascontiguousarray(array[start : start + 4096]).tobytes())
        return digest.hexdigest()


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
            name: hashlib.sha256("\n".join(record.id for record in records).encode()).hexdigest()
            for name, records in parts.items()
        },
    }
    context = Context(task=task, seed=recipe.seed, journal=root / "journal")
    return desk.prepare_parts(parts, recipe.data.prepare, context, root=root, identity=identity, say=say)


def _best_answer(record: Record) -> Record | None:
    """The record with its best answer alone (completions come best first); None if it has none that is good."""
    if not record.completions or record.completions[0].good is False:
        return None
    return replace(record, completions=record.completions[:1])


def labels_of(task: str, train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """Class names in sorted order; BIO tags for tagging (`O` first); empty for other tasks.

    Raises: DataError if there is nothing to tell apart.
    """
    if task == "classification":
        found = sorted({str(record.label) for record in train})
        if len(found) < 2:
            raise DataError(
                f"all {len(train)} training rows have the label '{found[0] if found else ''}'",
                fix="give rows of at least two classes",
            )
        unseen = {str(record.label) for record in test} - set(found)
        if unseen:
            raise DataError(
                f"the test part has labels that training never saw: {', '.join(sorted(unseen)[:5])}",
                fix="add training rows for them, or remove these test rows",
            )
        return found
    if task == "multilabel":
        return sorted({name for record in train for name in record.label or ()})  # type: ignore[union-attr, misc]
    if task == "tagging":
        kinds = sorted({span.label for record in train for span in record.label or ()})  # type: ignore[union-attr]
        return ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in ("B", "I"))]
    return []


def kinds_of(task: str, labels: Sequence[str]) -> list[str]:
    """The names that a model may answer with: the classes, or the kinds of spans behind BIO tags."""
    return sorted({name[2:] for name in labels if name != "O"}) if task == "tagging" else list(labels)


def render(
    recipe: Recipe,
    found: Read,
    tokenizer: PreTrainedTokenizerBase,
    make_objective: Callable[[list[str], str], Objective],
    *,
    config: Any,
    labels: list[str] | None = None,
    name: str | None = None,
) -> tuple[Prepared, int]:
    """Records -> examples of every split; returns them and the maximum length in use. `config` is the base's.

    `labels` are those that several tasks share, `name` tells this one of several from the others.
    Raises: DataError from the preflight, RecipeError if the length does not fit the model.
    """
    from attune.data.preflight import preflight

    if labels is None:
        labels = labels_of(found.task, found.split.train, found.split.test)
    objective = make_objective(labels, found.task)
    adapter: Any = plugins.get("adapter", recipe.adapter.name)(recipe.adapter.options)  # type: ignore[call-arg]
    context = getattr(config.get_text_config(), "max_position_embeddings", 1024) - adapter.virtual_tokens
    instruction = recipe.data.instruction if objective.head == "lm" else None
    if found.task == "generation" and template_of(found.split.train) not in ("none", "chat"):
        instruction = None  # it stands in the template's place
    if objective.head == "lm" and found.task in WRITABLE and instruction is None:
        instruction = instruction_for(found.task, kinds_of(found.task, labels), name)
    limit = recipe.data.max_length
    if limit is not None and limit > context:
        raise RecipeError(
            f"data.max_length is {limit}, but {recipe.model.base} reads at most {context} tokens",
            where=recipe.where("data.max_length"),
            fix=f"use data.max_length={context} or less",
        )
    parts = {"train": found.split.train, "validation": found.split.validation, "test": found.split.test}
    unfit: Counter[str] = Counter()
    usable: dict[str, list[Record]] = {}
    for part, records in parts.items():
        usable[part] = []
        for record in records:
            reason = objective.accepts(record if instruction is None else written(record, instruction))
            if reason is None:
                usable[part].append(record)
            else:
                unfit[f"{part}: {reason}"] += 1
    if not usable["train"]:
        raise DataError(
            f"no training row fits the objective {objective.name}", why="; ".join(unfit) or "there are no rows"
        )
    renderer = renderer_for(
        tokenizer,
        config,
        template=recipe.model.chat_template,
        max_length=limit or context,
        truncate=recipe.data.truncate,
    )
    brief = bool(renderer.decoder_prefix)
    usable = {part: [wrapped(record, brief=brief) for record in records] for part, records in usable.items()}
    stores: dict[str, ExampleStore] = {}
    seen = usable
    if instruction is not None:
        seen = {part: [written(record, instruction) for record in records] for part, records in usable.items()}
    for part, records in seen.items():
        if records:
            stores[part] = objective.store(records, renderer)
    checked = preflight(
        stores["train"], renderer, seen["train"], objective=objective, truncation_limit=recipe.data.max_truncated
    )
    manifest = {**found.manifest, "labels": labels, "unfit": dict(unfit), "preflight": checked.facts}
    longest = max(store.longest for store in stores.values())
    prepared = Prepared(
        found.task,
        labels,
        usable["train"],
        usable["validation"],
        usable["test"],
        found.split.clean_test_ids,
        dict(stores),
        renderer,
        manifest,
        checked.preview,
        instruction,
    )
    return prepared, limit or longest
