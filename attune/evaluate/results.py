"""What an evaluation found, as plain JSON: written by `evaluate`, read by the report, `compare` and the command line.

Every number is finite or null (JSON has no NaN). Keys marked NotRequired are left out of the report where absent.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from attune.charts import Bin

__all__ = [
    "Figure",
    "Versus",
    "ClassRow",
    "Pair",
    "Confusion",
    "System",
    "SuiteRow",
    "RetainedRow",
    "Retained",
    "CourseRow",
    "Sample",
    "Data",
    "Planned",
    "Results",
]


class Figure(TypedDict):
    """A metric with its 95 % interval and the rows it rests on; null where undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int


class Versus(TypedDict):
    """Tuned minus this system, on the primary metric; `p` two-sided, paired over the same rows."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None


class ClassRow(TypedDict):
    """One line of the per-class table (`metrics.counts.per_class`)."""

    label: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


class Pair(TypedDict):
    """`count` of the `of` rows labelled `gold` were answered `said`."""

    gold: str
    said: str
    count: int
    of: int


class Confusion(TypedDict):
    """Answers by gold label (`metrics.counts.confusion`). Shapes: matrix [labels, columns].

    The matrix is null above 30 labels and where a row can have several.
    """

    labels: list[str]
    columns: list[str]
    """`labels`, and a last one for rows without an answer, if any."""
    matrix: list[list[int]] | None
    pairs: list[Pair]
    """Most confused first."""


class System(TypedDict):
    """Figures of one system on the test rows."""

    system: str
    """`tuned` is the model of this run."""
    note: NotRequired[str]
    seconds: NotRequired[float | None]
    """Wall time of answering all test rows."""
    trained_seconds: NotRequired[float | None]
    cost: NotRequired[str | None]
    """In words, with its unit, where it is known."""
    metrics: dict[str, Figure]
    """In the order they are shown."""
    clean_metrics: NotRequired[dict[str, Figure] | None]
    """The same without test rows that also stand in the training data; null where there are none."""
    per_class: NotRequired[list[ClassRow] | None]
    confusion: NotRequired[Confusion | None]
    calibration: NotRequired[list[Bin] | None]
    versus: NotRequired[Versus | None]
    """Null for the tuned system itself."""


class SuiteRow(TypedDict):
    """Figures of one suite (`suites.base`), before and after training."""

    suite: str
    task: str
    primary: str
    """The metric that stands for the suite."""
    higher_is_better: bool
    tuned: dict[str, Figure]
    base: dict[str, Figure] | None
    """Null where the base cannot be asked."""
    change: Versus | None
    """Tuned minus base on the primary metric, paired over the same rows."""
    note: str


class RetainedRow(TypedDict):
    """One retained suite before and after training (`retained.Lost`)."""

    suite: str
    figure: str
    n: int
    before: Figure
    after: Figure
    points: float | None
    """Lost; negative where it gained."""
    low: float | None
    high: float | None
    p: float | None
    relative: bool
    """Whether a point is one per cent of the base's loss; else of the answers or the probability of right ones."""


class Retained(TypedDict):
    """What was forgotten."""

    rows: list[RetainedRow]
    limit: float | None
    inside: bool | None
    """Whether every suite stays within the limit; null without one, or where its questions are too few to tell."""
    note: str
    why: str
    """What was chosen after training, and why; empty where nothing was left to choose."""
    points: list[dict[str, Any]]
    """What was tried between the base and the tuned model (`interpolate.Point`)."""
    figure: str
    """The validation figure that `points` name as `value`."""
    kept: dict[str, Any] | None


class Sample(TypedDict):
    """One test row with the answers of the base and of the tuned model, as text."""

    id: str
    where: NotRequired[str]
    prompt: str
    reference: str
    base: str | None
    tuned: str | None
    correct: bool | None
    """Whether the tuned answer is right; null where right and wrong do not apply."""
    base_correct: NotRequired[bool | None]
    changed: bool
    """Whether tuned and base answers differ."""


class Source(TypedDict):
    path: NotRequired[str]
    name: NotRequired[str]
    """In place of `path`, for documents of a corpus."""
    sha256: str
    rows: NotRequired[int | None]
    licence: NotRequired[str | None]


class Data(TypedDict):
    """Where the rows came from, and what became of them."""

    sources: list[Source]
    counts: dict[str, int]
    """Rows read, kept, and so on, in the order they are shown."""
    drops: dict[str, int]
    """Reason -> rows left out."""
    leakage: str
    """What was found to stand in both train and test, and what was done, in one or two sentences."""
    measured_rows: NotRequired[dict[str, Any]]
    """`part`, `n` and `sha256` of the rows every system was asked, references included: equal hashes, equal test."""


class Planned(TypedDict):
    """One estimate made before training, and what it came to, both in words with units."""

    what: str
    planned: str
    actual: str


class VerdictRow(TypedDict):
    """`verdict.Verdict` as JSON."""

    word: str
    sentence: str
    evidence: list[str]
    ship: bool


class CourseRow(TypedDict):
    """`curves.Course` as JSON: good, overfit, underfit, diverging, too short or unknown, and why."""

    name: str
    sentence: str
    fix: str


class Method(TypedDict):
    """What was trained."""

    adapter: str
    objective: NotRequired[str]
    trainable_parameters: int
    all_parameters: int


class Preflight(TypedDict):
    """What of the data reaches the loss."""

    supervised_tokens: int
    all_tokens: int
    truncated: int
    examples: int


class Task(TypedDict):
    """One of several tasks that one model learned together."""

    name: str
    kind: str
    primary: str
    higher_is_better: dict[str, bool]
    n: int
    """Rows it was measured on."""
    train: int
    """Its training examples."""
    systems: list[System]


class Results(TypedDict):
    """One evaluation of one run."""

    run: str
    created: str
    """ISO 8601."""
    task: str
    base: str
    method: Method
    verdict: VerdictRow
    course: NotRequired[CourseRow]
    """How the training went."""
    primary: str
    signatures: NotRequired[dict[str, str]]
    """Metric -> settings and version of the library behind it."""
    higher_is_better: dict[str, bool]
    """Metric -> direction."""
    metrics: dict[str, Figure]
    """`<split>/<metric>` of the tuned model: what `run.metrics` gives."""
    systems: list[System]
    tasks: NotRequired[list[Task]]
    """Each of several tasks with its own metrics; empty where there is one."""
    transfer: NotRequired[list[dict[str, Any]]]
    """Each task alone against together: `attune transfer`."""
    stages: NotRequired[list[dict[str, Any]]]
    """One line for each stage of a run in stages."""
    forgetting: NotRequired[dict[str, Any]]
    """Every stage's model on every stage's rows: `evaluate.forgetting`."""
    curves: list[dict[str, Any]]
    """Rows of metrics.jsonl."""
    best_step: NotRequired[int | None]
    suites: NotRequired[list[SuiteRow]]
    """Further questions (`evaluate.suites`)."""
    distilled: NotRequired[list[dict[str, Any]]]
    """Teacher, student and the student without a teacher (`attune.distill.side_by_side`)."""
    retained: NotRequired[Retained | None]
    """What was forgotten; null where nothing was asked."""
    samples: list[Sample]
    data: Data
    splits: dict[str, int]
    preflight: NotRequired[Preflight | None]
    recipe: str
    """recipe.yaml as it was run."""
    environment: dict[str, Any]
    cost: dict[str, Any]
    """Name with unit -> what was measured: `training seconds`. Never an estimate that nobody measured."""
    plan: NotRequired[list[Planned] | None]
    next: NotRequired[list[str]]
    """Commands to run next."""
