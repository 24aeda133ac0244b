"""Texts on which different models disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attune.data.label.strategies.base import Choice, Strategy, View, doubt
from attune.data.label.strategies.random import Random

if TYPE_CHECKING:
    import numpy as np


class Committee(Strategy):
    """Logistic regression on words, the same on letters, and naive Bayes: how their votes divide; of those that
    divide alike, the ones about which they doubt most.

    Source: Engelson and Dagan 1996 (vote entropy).
    """

    name = "committee"

    def choose(self, view: View, n: int) -> list[Choice]:
        import numpy as np
        from scipy.special import entr

        models = view.committee()
        if not models:
            return Random().choose(view, n)
        chances = np.stack([every[view.open] for every in models])
        if view.several:
            votes = (chances > 0.5).mean(axis=0)
            divided = (entr(votes) + entr(1 - votes)).sum(axis=1)
        else:
            best = chances.argmax(axis=2)
            votes = (best[:, :, None] == np.arange(len(view.labels))).mean(axis=0)
            divided = entr(votes).sum(axis=1)
        # Rounded, so that equal divisions tie whatever the order of the labels.
        order = np.lexsort((-doubt(chances.mean(axis=0), view.several), -divided.round(9)))[:n]
        return [Choice(int(view.open[at]), _why(chances[:, at], votes[at], view)) for at in order]


def _why(chances: np.ndarray, votes: np.ndarray, view: View) -> str:
    import numpy as np

    if view.several:
        label = int(np.abs(votes - 0.5).argmin())
        shares = ", ".join(f"{share:.0%}" for share in chances[:, label])
        return f"models say {shares} for {view.labels[label]}"
    said = [view.labels[label] for label in dict.fromkeys(chances.argmax(axis=1).tolist())]
    return f"models disagree: {', '.join(said)}" if len(said) > 1 else f"models agree on {said[0]}, without confidence"
