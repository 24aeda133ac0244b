"""Whether the winner's gain is real: a paired test on rows that no trial saw, and how much luck the choice invites."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from attune.runs import Run

__all__ = ["judged", "luck", "figure_of"]


def judged(folder: Path, facts: dict[str, Any], winner: str, default: str) -> dict[str, Any]:
    """The winner against the recipe itself on validation and test, and the sentence that may be said of it.

    Shapes: statistics.npz holds one row per test row and metric.
    """
    import numpy as np

    from attune.evaluate.compare import compare

    best = Run(folder / "trials" / winner)
    n_test = best.results["systems"][0]["metrics"][best.results["primary"]]["n"]
    name = facts["primary"]
    with np.load(best.path / "evaluation" / "statistics.npz", allow_pickle=False) as saved:
        name = name if name in saved.files else best.results["primary"]
    found: dict[str, Any] = {"metric": name, "n": n_test, "winner": _figure(best, name)}
    if not default:
        found["sentence"] = (
            "No trial was better than the recipe itself on validation rows, or the recipe did not finish: there is no "
            f"gain to test. Test {name} {_words(found['winner'])}."
        )
        return found
    other = Run(folder / "trials" / default)
    pair = compare(best, other, name)
    higher = facts["higher"]
    ours, theirs = _validation(best), _validation(other)
    # a figure of n rows is as uncertain as one over n others: the test rows say how far two settings differ by chance
    spread = (pair["high"] - pair["low"]) / (2 * 1.96) * math.sqrt(n_test / max(1, facts["rows"]["validation"]))
    trials = _finished(folder)
    better = pair["difference"] > 0 if higher else pair["difference"] < 0
    real = pair["p"] < 0.05
    word = "the gain is real" if real and better else "the winner is worse" if real else "not told apart"
    found |= {
        "default": _figure(other, name),
        "difference": pair["difference"],
        "low": pair["low"],
        "high": pair["high"],
        "p": pair["p"],
        "n": pair["n"],
        "validation": {"winner": ours, "default": theirs, "n": facts["rows"]["validation"], "metric": facts["primary"]},
        "luck": luck(trials, spread),
        "trials_finished": trials,
        "word": word,
    }
    found["sentence"] = (
        f"Test {name}: best setting {_words(found['winner'])}, recipe as it was {_words(found['default'])}; difference "
        f"{pair['difference']:+.4f} (95 % interval {pair['low']:+.4f} to {pair['high']:+.4f}), p {pair['p']:.3g}, "
        f"{pair['n']} rows: {word}. On validation it was {ours - theirs:+.4f}: the best of {trials} finished trials "
        f"looks better by about {found['luck']:.4f} there by luck alone, so only the test difference counts."
    )
    return found


def luck(trials: int, spread: float) -> float:
    """How much better the best of n equally good trials looks than one of them, expected: the maximum of n normal
    figures of that standard error (Blom's approximation). An upper figure, since trials share their rows."""
    from scipy.stats import norm

    return float(norm.ppf((trials - 0.375) / (trials + 0.25)) * spread) if trials > 1 else 0.0


def _figure(run: Run, name: str) -> dict[str, Any]:
    return run.results["systems"][0]["metrics"][name]


def _words(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"


def figure_of(facts: dict[str, Any]) -> float | None:
    """The validation figure of the weights that a trial kept: its best evaluation's, or where `retain` chose between
    the base and the tuned model, that of the point it chose. `facts` is data/training.json."""
    kept = facts.get("retain", {}).get("kept")
    return kept["value"] if kept else facts["best"]


def _validation(run: Run) -> float:
    found = figure_of(json.loads((run.path / "data" / "training.json").read_text()))
    return math.nan if found is None else float(found)


def _finished(folder: Path) -> int:
    """Trials that trained their whole schedule."""
    return sum(
        json.loads(path.read_text())["state"] in ("done", "budget") for path in folder.glob("trials/*/status.json")
    )
