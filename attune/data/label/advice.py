"""Whether more labels are worth it: the learning curve so far, carried on.

The texts chosen by active learning are harder than the rest, so the level of F1 here is lower than what the model
reaches on all texts; what matters is how much the curve still rises.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attune.data.label.learner import chances_of

__all__ = ["Advice", "Curve", "advise", "extend", "LEAST"]

LEAST = 30
"""Labelled texts below which nothing can be said."""
MOST = 2000
"""Labelled texts that are looked at; of more, as many are drawn."""
SHARES = (0.25, 0.4, 0.6, 0.8, 1.0)
FOLDS, REPEATS = 4, 3
RESAMPLES = 200
POWERS = np.linspace(0.1, 2.0, 20)
ENOUGH = 0.005
"""A rise of macro-F1 that is not worth the work: half a point."""


@dataclass(frozen=True)
class Curve:
    """Cross-validated macro-F1 by number of labels learned from, mean of the repeats."""

    sizes: tuple[int, ...]
    macro_f1: tuple[float, ...]


@dataclass(frozen=True)
class Advice:
    """What more labels would bring. Rises are in macro-F1, 0 to 1."""

    stop: bool
    sentence: str
    more: int = 0
    rise: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    """Bounds of 90 % of the resampled rises."""
    curve: Curve | None = None


def advise(
    features: Any, targets: Sequence[Any], labels: tuple[str, ...], *, more: int = 50, several: bool = False, seed=0
) -> Advice:
    """Cross-validate at growing numbers of labels and say what `more` of them would bring.

    Stop is advised when even the upper bound of the rise is below half a point.
    Shapes: features [L, F] of the labelled texts; targets [L].
    """
    rng = np.random.default_rng(seed)
    counts = Counter(part for target in targets for part in (target if several else (target,)))
    often = [label for label in labels if counts[label] > 1]
    if len(targets) < LEAST or len(often) < 2:
        need = max(LEAST - len(targets), 2 - len(often))
        return Advice(False, f"too early to say: at least {need} more labels, two of them with two texts or more")
    rows = np.sort(rng.permutation(len(targets))[:MOST])
    known = [targets[row] for row in rows]
    truth = np.array([[label in (target if several else (target,)) for label in often] for target in known])
    sizes, answers = _answers(features[rows], known, tuple(often), labels, several, rng)
    # A text without any of these labels still counts where it is taken for one of them.
    whole = np.ones((1, len(rows)))
    means = _macro_f1(truth, answers, whole)[:, 0]
    weights = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES).astype(float)
    drawn = _macro_f1(truth, answers, weights)
    now = len(targets)
    rise = float(extend(sizes, means[:, None], now, more)[0])
    low, high = (float(value) for value in np.quantile(extend(sizes, drawn, now, more), [0.05, 0.95]))
    low, high = min(low, rise), max(high, rise)
    stop = high < ENOUGH
    missing = [label for label in labels if counts[label] < 2]
    points = f"{100 * rise:.1f} pt (between {100 * low:.1f} and {100 * high:.1f})"
    if stop:
        sentence = f"{more} more labels move macro-F1 by < {100 * ENOUGH:.1f} pt: about {points}. You can stop"
    else:
        sentence = f"{more} more labels move macro-F1 by about {points}. Go on"
    if missing:
        sentence += f"; with fewer than two texts and not judged: {', '.join(missing[:5])}" + (
            f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        )
    return Advice(stop, sentence + ".", more, rise, low, high, Curve(tuple(sizes), tuple(map(float, means))))


def extend(sizes: Sequence[int], curves: np.ndarray, now: int, more: int) -> np.ndarray:
    """What F(now + more) - F(now) is on F(n) = a - b n^-c with b >= 0, fitted to each curve by least squares.

    A curve that does not rise is flat and brings nothing. Shapes: curves [sizes, resamples]; result [resamples].
    Source: Figueroa et al. 2012, "Predicting sample size required for classification performance".
    """
    n = np.asarray(sizes, dtype=float)
    centred = curves - curves.mean(axis=0)
    best, rise = np.full(curves.shape[1], np.inf), np.zeros(curves.shape[1])
    for power in POWERS:
        x = -(n**-power)
        x = x - x.mean()
        slope = np.maximum((x @ centred) / (x @ x), 0)
        error = ((centred - x[:, None] * slope) ** 2).sum(axis=0)
        better = error < best
        best = np.where(better, error, best)
        rise = np.where(better, slope * (now**-power - (now + more) ** -power), rise)
    return np.minimum(rise, 1.0)


def _answers(
    features: Any, targets: list[Any], often: tuple[str, ...], labels: tuple[str, ...], several: bool, rng: Any
) -> tuple[list[int], np.ndarray]:
    """Cross-validated answers: [sizes, repeats, N, labels that occur often], and the sizes."""
    from sklearn.model_selection import KFold, StratifiedKFold

    every = len(targets)
    answers = np.zeros((len(SHARES), REPEATS, every, len(often)), dtype=bool)
    columns = [labels.index(label) for label in often]
    inner = every - every // FOLDS
    sizes = [max(2, round(share * inner)) for share in SHARES]
    # Labels are divided evenly among the folds where one of them has enough texts for that.
    even = not several and max(Counter(targets).values()) >= FOLDS
    for repeat in range(REPEATS):
        state = int(rng.integers(1 << 31))
        folds: Any = (StratifiedKFold if even else KFold)(FOLDS, shuffle=True, random_state=state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a label with fewer texts than folds: said in the advice
            parts = list(folds.split(np.zeros(every), np.array(targets, dtype=object).astype(str) if even else None))
        for learned, held in parts:
            learned = rng.permutation(learned)
            for at, size in enumerate(sizes):
                some = learned[:size]
                found = [targets[row] for row in some]
                chances = chances_of(features, some, found, labels, held, several=several)
                if chances is None:
                    only = np.array([label == found[0] for label in often])
                    answers[at, repeat, held] = only
                elif several:
                    answers[at, repeat, held] = chances[:, columns] > 0.5
                else:
                    answers[at, repeat, held] = chances.argmax(axis=1)[:, None] == columns
    return sizes, answers


def _macro_f1(truth: np.ndarray, answers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[sizes, resamples]: mean over repeats and labels of F1, each text counted by its weight.

    Shapes: truth [N, C]; answers [sizes, repeats, N, C]; weights [resamples, N].
    """
    there = weights @ truth
    made = np.zeros((len(answers), len(weights)))
    for at, repeats in enumerate(answers):
        for said in repeats:
            right = weights @ (truth & said)
            total = there + weights @ said
            made[at] += np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0).mean(axis=1)
    return made / answers.shape[1]
