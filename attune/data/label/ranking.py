"""One round of active learning: fit on what is labelled, then choose what to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from attune import plugins
from attune.data.label.features import Features
from attune.data.label.learner import chances_of
from attune.data.label.strategies.base import Choice, View

__all__ = ["Ranking", "rank"]


@dataclass(frozen=True)
class Ranking:
    """What one round found."""

    chances: np.ndarray | None
    """Probability of each label for every row, [N, C]."""
    choices: list[Choice]


def rank(
    features: Features,
    labelled: np.ndarray,
    targets: Sequence[Any],
    labels: tuple[str, ...],
    open_rows: np.ndarray,
    *,
    strategy: str = "mixed",
    n: int = 10,
    several: bool = False,
    learns: bool = True,
    seed: int = 0,
) -> Ranking:
    """Choose n of `open_rows`. `targets` are the labels of the rows `labelled`; the same input gives the same choice.

    `learns`: whether there is a model (spans have none).
    Raises: RecipeError if no strategy has that name.
    """
    plugin: Any = plugins.get("strategy", strategy)
    everyone = np.arange(len(features))
    fit = partial(chances_of, several=several, seed=seed)
    chances = fit(features.main, labelled, targets, labels, everyone) if learns and len(labelled) else None

    def committee() -> list[np.ndarray]:
        if chances is None:
            return []
        others = [
            fit(features.chars, labelled, targets, labels, everyone),
            fit(features.words, labelled, targets, labels, everyone, model="bayes"),
        ]
        return [chances, *(other for other in others if other is not None)]

    seen = {part for target in targets for part in (target if several else (target,))} if learns else set()
    view = View(
        features,
        labelled,
        open_rows,
        labels,
        len(seen),
        chances,
        committee,
        several,
        np.random.default_rng((seed, len(labelled))),
    )
    return Ranking(chances, plugin().choose(view, n) if len(open_rows) else [])
