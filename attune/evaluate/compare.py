"""Two runs on the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attune.errors import UsageError

if TYPE_CHECKING:
    from attune.runs import Run

__all__ = ["compare"]


def compare(first: Run, second: Run, metric: str | None = None) -> dict[str, Any]:
    """First minus second on the first's main figure (or `metric`), paired over the test rows that both answered.

    Raises: UsageError if they were not measured on the same rows, or not on the same figure.
    """
    import numpy as np

    from attune.evaluate.measure import metrics_for
    from attune.evaluate.stats import paired
    from attune.evaluate.tasks import TaskMean

    a, b = first.results, second.results
    if a["primary"] != b["primary"] or a["task"] != b["task"]:
        raise UsageError(
            f"{first.path} and {second.path} cannot be compared",
            why=f"one is judged by {a['primary']}, the other by {b['primary']}",
        )
    name = metric or a["primary"]
    rows = {}
    contents: list[tuple[str, str]] = []
    groups = None
    for run in (first, second):
        with np.load(run.path / "evaluation" / "statistics.npz", allow_pickle=False) as saved:
            rows[run.path] = (saved["ids"], saved[name])
            contents.append((str(saved["rows"]), str(saved["answers"])))
            groups = saved["groups"].tolist() if "groups" in saved else groups
    (ids_a, table_a), (ids_b, table_b) = rows[first.path], rows[second.path]
    if ids_a.tolist() != ids_b.tolist():
        raise UsageError(
            f"{first.path} and {second.path} were not measured on the same rows",
            fix="evaluate both on one data.test file",
        )
    (raw_a, answers_a), (raw_b, answers_b) = contents
    if raw_a != raw_b or answers_a != answers_b:
        changed = f"the test set changed in between (SHA-256 {raw_a[:12]} and {raw_b[:12]})"
        raise UsageError(
            f"{first.path} and {second.path} were not measured on the same rows",
            why=f"the rows have the same ids, but "
            f"{changed if raw_a != raw_b else 'a step of data.prepare changed the answers of one of them'}",
            fix="train the older run again on the test set as it is now, with the same steps on labels and answers",
        )
    figure: Any = TaskMean.of(a["tasks"]) if a.get("tasks") else metrics_for(a["task"], [name])[0]
    pair = paired(figure, table_a, table_b, groups=groups)
    sure = "a real difference" if pair.p < 0.05 else "not told apart"
    sentence = (
        f"{name}: {first.path.name} {figure.value(table_a):.4f}, {second.path.name} {figure.value(table_b):.4f}; "
        f"difference {pair.difference:+.4f} (95 % interval {pair.low:+.4f} to {pair.high:+.4f}), p {pair.p:.3g}, "
        f"{len(ids_a)} rows: {sure}"
    )
    return {
        "metric": name,
        "difference": pair.difference,
        "low": pair.low,
        "high": pair.high,
        "p": pair.p,
        "n": len(ids_a),
        "sentence": sentence,
    }
