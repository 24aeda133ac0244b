"""What a suite is: a named set of questions with its metrics, that any model can be measured on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from attune.data.templates.base import wrapped
from attune.plugins import Options
from attune.records import LABEL_TASKS

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from attune.data.render import Renderer
    from attune.evaluate.predictions import Predictions
    from attune.evaluate.stats import Interval, Paired
    from attune.generate.engine import Engine
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.recipe import Evaluate
    from attune.records import Record

__all__ = ["Suite", "Questions", "Subject", "Measured", "measure", "change"]


@dataclass
class Questions:
    """What a suite asks, and how the answers are judged."""

    task: str
    """One of `predictions.TASKS`."""
    records: list[Record]
    metrics: list[str]
    primary: str
    """The metric that stands for the suite; one of `metrics`."""


@dataclass
class Subject:
    """The model that is measured, and how it reads and answers."""

    policy: Policy
    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    """One whose `truncate` lets long texts through (`left`); `max_length` is the longest sequence that is scored."""
    layout: str
    settings: Evaluate
    """The recipe's `evaluate` section: how answers are drawn, and how much is computed at once."""
    objective: Objective | None = None
    """What it was trained with; a suite of labels needs it to read a head's outputs."""
    seed: int = 0

    @cached_property
    def engine(self) -> Engine:
        """What writes its answers."""
        from attune.generate.seq2seq import engine_of

        return engine_of(
            self.policy.model,
            self.tokenizer,
            self.renderer,
            device=str(next(self.policy.parameters()).device),
            batch_tokens=self.settings.batch_tokens,
            repetition_penalty=self.settings.repetition_penalty,
        )

    @property
    def forward(self) -> dict[str, Any]:
        """How its forward passes are run."""
        return {
            "layout": self.layout,
            "pad_id": self.tokenizer.pad_token_id or 0,
            "batch_tokens": self.settings.batch_tokens,
        }


@dataclass
class Measured:
    """One model's figures on one suite."""

    suite: str
    task: str
    primary: str
    higher_is_better: dict[str, bool]
    ids: list[str]
    figures: dict[str, Interval]
    """By metric, the undefined ones left out."""
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    """By metric: a row per record, which `change` pairs two models by."""
    predictions: Predictions | None = None
    seconds: float = 0.0

    @property
    def value(self) -> Interval:
        """The figure that stands for the suite."""
        return self.figures[self.primary]


class Suite(ABC):
    """A named set of questions with its metrics. A new one says what it asks in `load`; `answer` is there for those
    that ask in a way of their own.
    """

    name: ClassVar[str]

    class Config(Options):
        """No options."""

    def __init__(self, options: Any = None):
        self.options: Any = options if options is not None else self.Config()

    @property
    def label(self) -> str:
        """What its figures are called."""
        return self.name

    @abstractmethod
    def load(self) -> Questions:
        """The questions, the same for every model.

        Raises: DataError or MachineError if they cannot be read.
        """

    def why_not(self, questions: Questions, subject: Subject) -> str | None:
        """Why this model cannot be asked, or None."""
        head = subject.policy.head
        if questions.task == "text" and getattr(subject.policy.config, "is_encoder_decoder", False):
            return "an encoder-decoder reads a text and writes another: it has no likelihood of raw text"
        if head == "lm":
            return None if questions.task != "regression" else "a language model writes no number to compare with"
        if questions.task not in LABEL_TASKS:
            return "the model has a head for labels and writes no text"
        if subject.objective is None or subject.objective.task != questions.task:
            return f"the model's head is for {subject.objective.task if subject.objective else 'another task'}"
        unknown = _labels(questions) - {name.removeprefix("B-").removeprefix("I-") for name in subject.objective.labels}
        return f"the model's head does not know {', '.join(sorted(unknown)[:3])}" if unknown else None

    def answer(self, questions: Questions, subject: Subject) -> Predictions:
        """The model's answers to the questions."""
        from attune.evaluate.predict import predict_labels, predict_text

        records, objective = questions.records, subject.objective
        if subject.policy.head != "lm":
            assert objective is not None  # why_not looked
            store = objective.store(records, subject.renderer)
            return predict_labels(subject.policy, objective, store, records, subject.renderer, **subject.forward)[0]
        if questions.task in LABEL_TASKS:
            return _prompted(questions, subject)
        scorer = _scorer("pretrain" if questions.task == "text" else "sft", questions.task)
        store = scorer.store(records, subject.renderer)
        found, _ = predict_text(subject.policy, scorer, store, records, **subject.forward)
        if questions.task == "generation" and any(_needs(name) != "logp" for name in questions.metrics):
            settings = subject.settings
            room = settings.max_new_tokens
            prompts = [subject.renderer.prompt_ids(record) for record in records]
            if (limit := subject.engine.context_length) is not None:
                prompts = [prompt[-max(1, limit - subject.engine.virtual_tokens - room) :] for prompt in prompts]
            made = subject.engine.generate(
                prompts, max_new_tokens=room, temperature=settings.temperature, seed=subject.seed
            )
            found.raw = [subject.engine.text(one.ids) for one in made]
            found.outputs, found.stopped = list(found.raw), [one.stopped for one in made]
        return found


def measure(suite: Suite, questions: Questions, subject: Subject) -> Measured:
    """Ask a model and judge its answers, each figure with its interval. Ask `why_not` first."""
    from attune.evaluate.measure import metrics_for
    from attune.evaluate.stats import bootstrap

    started = time.monotonic()
    brief = bool(subject.renderer.decoder_prefix)
    questions = replace(questions, records=[wrapped(record, brief=brief) for record in questions.records])
    predictions = suite.answer(questions, subject)
    found = Measured(
        suite.label,
        questions.task,
        questions.primary,
        {},
        [record.id for record in questions.records],
        {},
        predictions=predictions,
    )
    for metric in metrics_for(questions.task, questions.metrics):
        table = metric.statistics(questions.records, predictions)
        interval = bootstrap(metric, table, n=subject.settings.bootstrap, seed=subject.seed)
        if interval.value == interval.value:  # NaN: not defined for these answers
            found.figures[metric.name], found.statistics[metric.name] = interval, table
            found.higher_is_better[metric.name] = bool(metric.higher_is_better)
    found.seconds = time.monotonic() - started
    return found


def change(before: Measured, after: Measured, *, metric: str | None = None, n: int = 1000, seed: int = 0) -> Paired:
    """After minus before on the same questions, paired; on the suite's own figure unless `metric` names another."""
    from attune.evaluate.measure import metrics_for
    from attune.evaluate.stats import paired

    name = metric or after.primary
    (plugin,) = metrics_for(after.task, [name])
    return paired(plugin, after.statistics[name], before.statistics[name], n=n, seed=seed)


def _needs(metric: str) -> str | None:
    """The field of Predictions that a metric reads instead of the answers themselves."""
    from attune import plugins

    return getattr(plugins.get("metric", metric), "needs", None)


def _scorer(name: str, task: str) -> Objective:
    from attune import plugins

    plugin: Any = plugins.get("objective", name)
    return plugin(None, task=task)


def _labels(questions: Questions) -> set[str]:
    """Names of the classes, or of the kinds of spans, that the questions are about."""
    found: set[str] = set()
    for record in questions.records:
        if isinstance(record.label, tuple):
            found |= {item if isinstance(item, str) else item.label for item in record.label}
        elif isinstance(record.label, str):
            found.add(record.label)
    return found


def _prompted(questions: Questions, subject: Subject) -> Predictions:
    """Labels from a language model, asked as the zero-shot baseline is."""
    from attune.evaluate.baselines.base import Context
    from attune.evaluate.baselines.prompting import answer

    context = Context(
        task=questions.task,
        train=[],
        test=questions.records,
        labels=sorted(_labels(questions)),
        engine=subject.engine,
        prompt_ids=subject.renderer.prompt_ids,
        stop_ids=list(subject.renderer.stop_ids),
        seed=subject.seed,
        max_new_tokens=subject.settings.max_new_tokens,
    )
    return answer(context, "suite", None)
