"""The data stage from records on: records -> token ids of every split, checked before anything is trained."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from attune import plugins
from attune.data.examples import Example, ExampleStore
from attune.data.mix import Mix
from attune.data.render import Renderer
from attune.data.seq2seq import renderer_for
from attune.data.templates.base import wrapped
from attune.data.templating import template_of
from attune.data.written import WRITABLE, instruction_for, refuse_unreadable, written
from attune.errors import DataError, RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepare import Read
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.records import Record

__all__ = ["Prepared", "Windows", "labels_of", "kinds_of", "render"]


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
    if objective.head == "lm" and found.task in WRITABLE:
        refuse_unreadable(found.task, kinds_of(found.task, labels))
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
