"""The texts about which the model is least decided."""

from __future__ import annotations

from attune.data.label.strategies.base import Choice, Strategy, View, doubt, undecided
from attune.data.label.strategies.random import Random


class Uncertainty(Strategy):
    """Smallest margin between the two likeliest labels; chance while there is no model."""

    name = "uncertainty"

    def choose(self, view: View, n: int) -> list[Choice]:
        import numpy as np

        if view.chances is None:
            return Random().choose(view, n)
        chances = view.chances[view.open]
        order = np.argsort(-doubt(chances, view.several), kind="stable")[:n]
        return [Choice(int(view.open[at]), undecided(chances[at], view.labels, view.several)) for at in order]


class Entropy(Strategy):
    """Answers spread over most labels; chance while there is no model."""

    name = "entropy"

    def choose(self, view: View, n: int) -> list[Choice]:
        import numpy as np
        from scipy.special import entr

        if view.chances is None:
            return Random().choose(view, n)
        chances = view.chances[view.open]
        spread = (entr(chances) + entr(1 - chances) if view.several else entr(chances)).sum(axis=1)
        order = np.argsort(-spread, kind="stable")[:n]
        return [Choice(int(view.open[at]), undecided(chances[at], view.labels, view.several)) for at in order]
