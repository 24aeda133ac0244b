"""The `data` section of a recipe: what is learned from, how it is divided, prepared, mixed and cut."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from attune.recipe.base import Number, PluginChoice, Section, Share, Whole, known

__all__ = ["Split", "Preparation", "Source", "Mix", "Data"]


class Split(Section):
    """How rows are divided where no test or validation file is given; duplicates and groups never straddle."""

    validation: Share = 0.1
    """Share of rows for validation, which early stopping watches. 0 means none."""
    test: Share = 0.2
    """Share of rows held out for the final figures. 0 means none."""
    stratify: bool = Field(default=True, strict=True)
    """Whether every part keeps the balance of classes (label tasks only)."""
    group: str | None = None
    """A column whose equal values stay in one part: patient, customer, document."""
    near: bool = Field(default=True, strict=True)
    """Whether near duplicates also stay in one part, not only equal rows."""

    @model_validator(mode="after")
    def _leaves_some(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation:g} and test {self.test:g} leave no rows to train on")
        return self


class Preparation(PluginChoice):
    """One step of the data desk: its name, or its name with its options below it."""

    kind, key, fallback, nested = "step", "step", "", True


Task = Literal["auto", "classification", "multilabel", "regression", "tagging", "generation", "text"]


class Source(Section):
    """One of several tasks that one model learns together. What it leaves out is as in `data`."""

    path: str | list[str]
    """Its training data: a file, a folder, or a list of them."""
    name: str | None = None
    """What the task is called in figures, `test/NAME/accuracy`. null is the name of its first file."""
    weight: Number = Field(default=1.0, ge=0)
    """How much of it a step holds, relative to its size (see `mix`): 2 shows it twice as often. 0 only measures it."""
    task: Task | None = None
    """What is to be learned from it."""
    template: str | None = None
    """What its written answers are for, as `data.template`."""
    json_schema: str | None = None
    """The JSON Schema file that its extracted values obey, as `data.json_schema`."""
    instruction: str | None = None
    """What the model is told before each text; frozen into the recipe where label tasks are written as text."""
    target: str | None = None
    """The column to predict in a table."""
    columns: dict[str, str] | None = None
    """Which column of the file holds which part."""
    format: str | None = None
    """How its files are written."""
    test: str | None = None
    """A file of held-out rows. null means a share of `path` (`data.split.test`)."""
    validation: str | None = None
    """A file of rows for early stopping. null means a share of `path`."""

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}", name):
            raise ValueError("is no task name; use letters, digits, '_' and '-', at most 48")
        return name

    _format = field_validator("format")(known("format", "auto"))

    @property
    def title(self) -> str:
        """`name`, or the name of the first file."""
        first = self.path if isinstance(self.path, str) else self.path[0]
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(first.rstrip("/")).name.split(".")[0]).strip("-_")
        return self.name or stem[:48] or "task"


class Mix(Section):
    """How the sources of `data.path` share the steps."""

    temperature: Annotated[Number, Field(gt=0)] | None = 1.0
    """How far sizes count: a source's share is weight * size ** (1 / temperature). 1 takes every example once where all
    weights are 1, more favours small sources, null leaves sizes out, so that the weights are the shares."""
    batches: Literal["mixed", "by_task"] = "mixed"
    """Whether a step holds examples of all sources in their shares, or of one source alone, in turns."""
    loss_per: Literal["token", "example"] = "token"
    """What counts the same in the loss of a step: every supervised token, or every example. Long answers outweigh
    labels of a few tokens where it is `token`."""


class Data(Section):
    """What to learn from, and how it is read, divided and cut."""

    path: str | list[str | Source]
    """Training data: a file, a folder, or a list of them; or a list of tasks to learn together, each a mapping with a
    `path` and what is its own. Relative paths start where the command runs."""
    mix: Mix = Mix()
    """How several tasks share the steps."""
    test: str | None = None
    """A file of held-out rows. It is never altered: rows of `path` that also stand in it leave training (`leakage`)."""
    validation: str | None = None
    """A file of rows for early stopping. null means a share of `path` (`split.validation`)."""
    format: str = "auto"
    """How the files are written. `auto` recognises it from the content and says so."""
    columns: dict[str, str] = {}
    """Which column of your file holds which part: `{text: Complaint, label: Type}`. Only needed where the usual names
    do not fit."""
    target: str | None = None
    """The column to predict in a table. null means the usual names: label, class, category, target."""
    task: Task = "auto"
    """What is to be learned. `auto` decides from the columns and says so."""
    prepare: list[Preparation] = []
    """Steps that clean, redact, filter or add to the data, in order: `[whitespace, dates, pii: {action: mask}]`. Every
    change is in the run's ledger. Steps on what the model reads run over all parts; the others over training rows."""
    suppression: str | None = None
    """The list of people whose records are left out, as `attune data forget` writes it (no plain text stands in it)."""
    split: Split = Split()
    """How rows are divided where no test or validation file is given."""
    leakage: Literal["drop_train", "report", "error"] = "drop_train"
    """What happens to training rows that stand in the given test file too: leave them out, only report, or stop."""
    chat_share: Share = 0.0
    """Pre-training only: share of documents that visibly are dialogues or question and answer to put through the chat
    template."""
    max_length: Annotated[Whole, Field(ge=8)] | None = None
    """Longest example, in tokens. null is chosen from the data and the model's context, and written down."""
    truncate: Literal["error", "drop", "left", "right", "window"] = "error"
    """What happens to longer examples: stop, leave out, cut the left or right end, or cut into windows."""
    max_truncated: Share = 0.01
    """Share of examples that may be cut or left out for their length before it is an error."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What an unreadable row does: stop with its line and column, or be left out, counted and written to a file."""
    max_drop: Share = 0.05
    """Share of rows that may be left out because they lack a label or an answer before it is an error."""
    template: str = "auto"
    """What written answers are for: `summarize`, `translate`, `answer`, `extract`, `rewrite`, `chat`, or `none` for
    prompts as they stand. It gives the instruction before each text and the figures that judge. `auto` decides from the
    columns and says so."""
    json_schema: str | None = None
    """A JSON Schema file that extracted values obey (template `extract`): the instruction carries it, training rows
    that break it are errors, answers are held against it."""
    instruction: str | None = None
    """What the model is asked to do, in your words: before each text of a written task (in place of the template's),
    before each text where `sft` learns labels as text, and in the prompted base's prompts of label tasks. null is made
    from the template, or from the task and its labels."""

    @field_validator("path")
    @classmethod
    def _some(cls, path: str | list[str | Source]) -> str | list[str | Source]:
        if not path or (isinstance(path, list) and not all(path)):
            raise ValueError("is empty")
        return path

    @model_validator(mode="after")
    def _named_apart(self) -> Data:
        names = [source.title for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"path has two tasks of the name '{twice[0]}'; give each a `name`")
        if names and (self.test is not None or self.validation is not None):
            raise ValueError("test and validation belong to each task of a list; write them beside its path")
        if not names and self.mix != Mix():
            raise ValueError("mix needs a list of tasks in path: [{path: a.csv}, {path: b.jsonl, weight: 2}]")
        return self

    _format = field_validator("format")(known("format", "auto"))
    _template = field_validator("template")(known("template", "auto"))

    @property
    def sources(self) -> list[Source]:
        """The tasks of a list that names some; empty where `path` is one body of data."""
        if isinstance(self.path, str) or not any(isinstance(item, Source) for item in self.path):
            return []
        return [item if isinstance(item, Source) else Source(path=item) for item in self.path]

    @property
    def paths(self) -> list[str]:
        """Every file and folder of `path`."""
        if isinstance(self.path, str):
            return [self.path]
        inner = [item if isinstance(item, str) else item.path for item in self.path]
        return [path for item in inner for path in ([item] if isinstance(item, str) else item)]
