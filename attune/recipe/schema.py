"""The schema of recipe.yaml: what may be asked for, what it means, and what happens where nothing is said.

A recipe is frozen once loaded. The docstring under a field is its help on the command line, its entry in the docs and
the hint of its errors. Reading, merging and explaining stand in `recipe.file`, which loads only when it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from attune.recipe.base import Number, OffIsNull, PluginChoice, Positive, Section, Share, Whole, known, seconds
from attune.recipe.retain import Retain, SuiteChoice
from attune.recipe.space import ranges

__all__ = [
    "Recipe",
    "Model",
    "Adapter",
    "Data",
    "Source",
    "Mix",
    "Preparation",
    "Split",
    "Objective",
    "Train",
    "EarlyStopping",
    "Evaluate",
    "Retain",
    "SuiteChoice",
    "Search",
]


class Adapter(PluginChoice):
    """Which weights train, and how."""

    kind, key, fallback = "adapter", "type", "lora"


class Objective(PluginChoice):
    """What is minimised; `auto` is replaced by the usual one for the task of the data."""

    kind, key, fallback = "objective", "name", "auto"


class Model(Section):
    """The base model and how it is held."""

    base: str = Field(default="starter", min_length=1)
    """The model to start from: `starter` (bundled), `minilm` (extra `offline`), a local folder, an earlier run
    (`runs/NAME`: its adapter is merged first), or a hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub model. null means its main branch."""
    from_config: str | None = None
    """Build the model with random weights from this config.json instead of loading the base's weights (pre-training
    from nothing). `cpu` and `gpu` name the starter's own presets; the tokenizer still comes from `base`."""
    layers: list[Annotated[Whole, Field(ge=0)]] | None = Field(default=None, min_length=1)
    """Keep only these transformer blocks of the base, counted from 0: a shallower student for distillation, as
    `[0, 2, 5]` of six. null keeps all."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights. `auto` takes bfloat16 where the machine computes it fast, else float32."""
    trust_remote_code: bool = Field(default=False, strict=True)
    """Whether code from the model's own repository may run here. It needs `revision` as a full 40-digit commit."""
    chat_template: str | None = None
    """A Jinja file that replaces the tokenizer's chat template, for training and for serving."""
    dropout: Number | None = Field(default=None, ge=0, lt=1)
    """Share of activations left out at random while training, wherever the base's family has a place for it (hidden
    states, attention, classifier). null keeps what the base says, which is mostly none."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """How attention is computed. `auto` takes the fastest that passes the probe at load; naming one implies padded
    rows."""

    @field_validator("layers")
    @classmethod
    def _in_order(cls, layers: list[int] | None) -> list[int] | None:
        if layers is not None and layers != sorted(set(layers)):
            raise ValueError("must rise, each number once")
        return layers

    @model_validator(mode="after")
    def _pinned(self) -> Model:
        if self.trust_remote_code and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError("trust_remote_code needs revision: the full 40-digit commit whose code you have read")
        return self


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


class EarlyStopping(Section):
    """When to stop because validation no longer improves; the best checkpoint is the result."""

    metric: str | None = None
    """The validation figure to watch: a metric's name or `loss`. null means the main metric of the task."""
    patience: Positive = 3
    """Evaluations in a row without improvement before stopping."""
    max_gap: Number | None = Field(default=None, gt=0)
    """Stop when validation loss minus the loss on a fixed sample of training rows, the mean of the last three
    evaluations, exceeds this: the training rows are being learned by heart. null means never."""

    _metric = field_validator("metric")(known("metric", "loss"))


class Train(Section):
    """How long, how fast and in what portions to learn."""

    epochs: Number = Field(default=3.0, gt=0, le=10_000)
    """Passes over the training data; a fraction is fine."""
    max_steps: Positive | None = None
    """Optimiser steps. Given, it replaces `epochs`."""
    budget: str | None = None
    """Time for training: 90s, 10m, 2h, 1h30m. Turned into a number of steps before the first, from measured steps."""
    learning_rate: Number | None = Field(default=None, gt=0, le=10)
    """Highest learning rate. null means the usual one of the adapter."""
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """How the learning rate falls after warm-up: half a cosine, a line, not at all, or stable and then decay (wsd)."""
    warmup_ratio: Share = 0.03
    """Share of all steps over which the learning rate rises from zero."""
    warmup_steps: Annotated[Whole, Field(ge=0)] | None = None
    """Steps over which the learning rate rises. Given, it replaces `warmup_ratio`."""
    min_lr_ratio: Share = 0.0
    """Where the schedule ends, as a share of `learning_rate`."""
    decay_ratio: Share = 0.2
    """Share of all steps spent in the decay of the `wsd` schedule."""
    weight_decay: Number = Field(default=0.01, ge=0, le=10)
    """Pull of weight matrices towards zero at each step (AdamW); biases and norms are exempt."""
    beta1: Number = Field(default=0.9, ge=0, lt=1)
    """AdamW's memory of the gradient."""
    beta2: Number = Field(default=0.999, ge=0, lt=1)
    """AdamW's memory of the squared gradient."""
    eps: Number = Field(default=1e-8, gt=0)
    """AdamW's guard against division by zero."""
    max_grad_norm: Number = Field(default=1.0, ge=0)
    """Longer gradients are shortened to this norm. 0 means never."""
    neftune_alpha: Number = Field(default=0.0, ge=0, le=1000)
    """Noise on the embeddings while training (NEFTune), against overfitting: 5 to 15 are usual, 0 means none."""
    batch_size: Positive | None = 16
    """Examples per optimiser step. A step is cut into as many forward passes as the memory asks for."""
    batch_tokens: Positive | None = None
    """Tokens per optimiser step, in place of `batch_size`."""
    micro_batch_tokens: Positive | None = None
    """Tokens of the largest forward pass. null is 4,096 on a CPU and 16,384 on a GPU, halved whenever memory
    runs out. It changes memory and speed, not what is learned."""
    layout: Literal["auto", "packed", "padded"] = "auto"
    """How examples share a forward pass: end to end without padding, or one a row. `auto` takes the faster that this
    model allows."""
    gradient_checkpointing: bool = Field(default=False, strict=True)
    """Whether activations are computed twice to save memory (about a third slower)."""
    eval_every: Positive | None = None
    """Steps between evaluations on validation data. null means about four times an epoch."""
    save_every: Positive | None = None
    """Steps between checkpoints. null means with each evaluation."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints kept; the best one is kept besides."""
    early_stopping: Annotated[EarlyStopping | None, OffIsNull] = EarlyStopping()
    """When to stop because validation no longer improves. null means never."""
    threads: Positive | None = None
    """CPU threads. null means one per core this process may use."""

    @model_validator(mode="before")
    @classmethod
    def _one_batch(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("batch_tokens") is not None and "batch_size" not in value:
            return {**value, "batch_size": None}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if self.batch_size is not None and self.batch_tokens is not None:
            raise ValueError("batch_size and batch_tokens both say how large a step is; keep one")
        if self.batch_size is None and self.batch_tokens is None:
            raise ValueError("one of batch_size and batch_tokens must say how large a step is")
        if self.warmup_steps is None and self.schedule == "wsd" and self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError("warmup_ratio and decay_ratio together are more than all steps")
        return self

    @field_validator("budget")
    @classmethod
    def _duration(cls, budget: str | None) -> str | None:
        if budget is not None:
            seconds(budget)
        return budget

    @property
    def budget_seconds(self) -> float | None:
        return None if self.budget is None else seconds(self.budget)


class Evaluate(Section):
    """What is measured on validation and test rows, and against what."""

    metrics: list[str] | Literal["auto"] = "auto"
    """Figures to compute. `auto` means all that fit the task."""
    primary: str | None = None
    """The figure that decides: verdict, comparison and early stopping. null means the main metric of the task."""
    baselines: list[str] | Literal["auto"] = "auto"
    """What the tuned model is compared with on the same rows. `auto` means all that fit the task; [] means none."""
    suites: list[SuiteChoice] = []
    """Further questions that the model is measured on, before and after training: `[medical.jsonl, rows: {path:
    news.txt, task: text}]`."""
    samples: Annotated[Whole, Field(ge=0)] = 50
    """Test rows shown with every system's answer in the report."""
    bootstrap: Annotated[Whole, Field(ge=100, le=100_000)] = 1000
    """Resamples behind each confidence interval."""
    generate_rows: Positive = 200
    """Test rows on which written answers are measured, evenly spaced; label tasks always use all rows."""
    max_new_tokens: Positive = 128
    """Longest generated answer, in tokens."""
    temperature: Number = Field(default=0.0, ge=0, le=5)
    """How answers to prompts are drawn, from the recipe's seed; 0 takes the likeliest token, as answers that are read
    back as labels always do."""
    repetition_penalty: Number = Field(default=1.0, gt=0, le=10)
    """Above 1, written answers repeat themselves less: small models loop without it. The base is asked likewise; the
    saved model and `attune chat` use it too."""
    few_shot: Positive = 8
    """Examples shown to the base model in the few-shot baseline; fewer where they do not fit its context."""
    batch_tokens: Positive = 4096
    """Tokens of one forward pass when scoring or generating."""

    _metrics = field_validator("metrics")(known("metric", "auto"))
    _primary = field_validator("primary")(known("metric"))
    _baselines = field_validator("baselines")(known("baseline", "auto"))


class Search(Section):
    """Which settings `attune search` tries, and for how long; training itself ignores it."""

    space: dict[str, Any] = {}
    """Ranges by dotted key: `{train.learning_rate: {low: 1e-5, high: 1e-3}, adapter.r: [4, 8, 16]}`; `log` and `step`
    may stand beside `low` and `high`. Empty means the usual ones for the adapter and the task."""
    budget: str | None = None
    """Time for the whole search with its final test: 20m, 2h. null means as long as `trials` take."""
    trials: Positive | None = None
    """Most trials, the recipe itself counted. null means 20 without a budget, and no limit with one."""
    workers: Positive = 1
    """Trials trained side by side, each in a process of its own with its share of the CPU threads."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How the next setting is drawn: from what did well so far (TPE), or evenly."""
    pruner: Literal["asha", "hyperband", "none"] = "asha"
    """How poor trials are cut short: successive halving, several such brackets, or not at all."""
    reduction: Annotated[Whole, Field(ge=2, le=10)] = 2
    """One trial in so many goes on from each rung of the pruner; rungs lie as many times apart."""
    keep: Literal["best", "all"] = "best"
    """Whose weights stay on disk: those of the best trial and of the recipe itself, or of every trial."""

    @field_validator("space")
    @classmethod
    def _ranges(cls, space: dict[str, Any]) -> dict[str, Any]:
        ranges(space)
        return space

    @field_validator("budget")
    @classmethod
    def _duration(cls, budget: str | None) -> str | None:
        if budget is not None:
            seconds(budget)
        return budget


class Recipe(Section):
    """Everything that decides a run."""

    name: str | None = None
    """Name of the run's folder. null is made from the data file, the objective and the adapter."""
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 0
    """Where all randomness starts: same recipe, seed and machine, same weights."""
    model: Model = Model()
    """The base model and how it is held."""
    adapter: Adapter = Field(default_factory=lambda: Adapter.model_validate({}))
    """Which weights train, and how."""
    data: Data
    """What to learn from, and how it is read, divided and cut."""
    objective: Objective = Field(default_factory=lambda: Objective.model_validate({}))
    """What is minimised. `auto` takes the usual objective for the task of the data."""
    train: Train = Train()
    """How long, how fast and in what portions to learn."""
    evaluate: Evaluate = Evaluate()
    """What is measured, and against what."""
    stages: list[dict[str, Any]] = []
    """Trainings one after another, each a partial recipe over what stands beside `stages`, each starting from the
    model before it: `[{objective: pretrain, data: {path: texts}}, {objective: sft, data: {path: chats.jsonl}}]`."""
    search: Search = Search()
    """Which settings `attune search` tries, and for how long; training itself ignores it."""
    retain: Retain = Retain()
    """What the model must not forget: how that is measured, and what is done about it."""
    track: list[Literal["tensorboard"]] = []
    """Where figures are sent besides metrics.jsonl. `tensorboard` needs the extra `track`."""

    _notices: tuple[str, ...] = PrivateAttr(())
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _safe(cls, name: str | None) -> str | None:
        from attune.runs import NAME

        if name is not None and not NAME.fullmatch(name):
            raise ValueError("is no folder name; use letters, digits, '.', '_' and '-', at most 96")
        return name

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any] = ()) -> Recipe:
        """The recipe of a file (or mapping) with overrides `a.b=c` on top; see `recipe.file.load`."""
        from attune.recipe.file import load

        return load(source, overrides)

    def replace(self, values: Mapping[str, Any]) -> Recipe:
        """A checked copy with other values by dotted key, `{"train.learning_rate": 2e-4}`; notices and places stay."""
        from attune.recipe.file import load

        changed = load(self.model_dump(mode="json"), values)
        changed._notices = self._notices
        changed._places = {key: where for key, where in self._places.items() if key not in values}
        return changed

    def dump(self) -> str:
        """The complete recipe as YAML; `Recipe.load` of it gives an equal recipe."""
        from attune.recipe.file import dump

        return dump(self)

    @property
    def notices(self) -> tuple[str, ...]:
        """What was understood differently from how it was written, to be shown once."""
        return self._notices

    def where(self, key: str) -> str | None:
        """`file:line:column` (or the override) that set a key, for errors found later; None for a default."""
        if key in ("adapter.type", "objective.name"):  # may be written bare: `objective: sft`
            return self._places.get(key) or self._places.get(key.split(".")[0])
        return self._places.get(key)

    @property
    def run_name(self) -> str:
        """`name`, or one made from the data file, the objective and the adapter."""
        if self.name:
            return self.name
        stem = Path(self.data.paths[0].rstrip("/")).name.split(".")[0]
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:48] or "run"
        return "-".join([stem, *([] if self.objective.name == "auto" else [self.objective.name]), self.adapter.name])

    @property
    def stage_recipes(self) -> list[Recipe]:
        """Every stage as a whole recipe; empty where there are none."""
        return [Recipe.load(stage) for stage in self.stages]

    def fingerprint(self) -> str:
        """SHA-256 over all that changes the result; see `recipe.file.fingerprint`."""
        from attune.recipe.file import fingerprint

        return fingerprint(self)

    def __eq__(self, other: object) -> bool:
        # Where a value was written, and in which words, is no part of what the recipe says.
        return isinstance(other, Recipe) and self.model_dump(mode="json") == other.model_dump(mode="json")

    __hash__ = None  # type: ignore[assignment]
