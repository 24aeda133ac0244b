"""The schema of recipe.yaml: what may be asked for, what it means, and what happens where nothing is said.

A recipe is frozen once loaded. The docstring under a field is its help on the command line, its entry in the docs and
the hint of its errors. Reading, merging and explaining stand in `recipe.file`, which loads only when it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator

from attune.recipe.base import Duration, Number, PluginChoice, Positive, Section, Whole, known
from attune.recipe.data import Data
from attune.recipe.model import Model
from attune.recipe.retain import Retain, SuiteChoice
from attune.recipe.space import ranges
from attune.recipe.train import Train

__all__ = ["Recipe", "Model", "Adapter", "Objective", "Evaluate", "Search"]


class Adapter(PluginChoice):
    """Which weights train, and how."""

    kind, key, fallback = "adapter", "type", "lora"


class Objective(PluginChoice):
    """What is minimised; `auto` is replaced by the usual one for the task of the data."""

    kind, key, fallback = "objective", "name", "auto"


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
    budget: Duration | None = None
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
