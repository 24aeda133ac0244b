"""First an overview, then the doubtful texts, never many of one kind."""

from __future__ import annotations

from attune.data.label.strategies.base import Choice, Strategy, View, doubt, undecided
from attune.data.label.strategies.diversity import MOST, Diversity, cover

OVERVIEW = 2
"""Texts for each label that are chosen by diversity before doubt counts."""
WIDER = 20
"""Of so many times the texts asked for, the most doubtful, those are taken that cover the others best."""


class Mixed(Strategy):
    """Diversity until there are twice as many labelled texts as labels; then doubt, spread by diversity."""

    name = "mixed"

    def choose(self, view: View, n: int) -> list[Choice]:
        import numpy as np

        if view.chances is None or len(view.labelled) < OVERVIEW * len(view.labels):
            return Diversity().choose(view, n)
        doubts = doubt(view.chances[view.open], view.several)
        order = np.argsort(-doubts, kind="stable")[: min(WIDER * n, MOST)]
        chosen = cover(view, view.open[order], doubts[order], n)
        return [Choice(row, f"{undecided(view.chances[row], view.labels, view.several)}; {why}") for row, why in chosen]
