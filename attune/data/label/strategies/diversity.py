"""Texts that stand for many others which nobody has labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attune.data.label.strategies.base import Choice, Strategy, View

if TYPE_CHECKING:
    import numpy as np

MOST = 2000
"""Texts compared with each other at once; of more, as many are drawn."""
ALIKE = 0.5


class Diversity(Strategy):
    """Each choice covers as much as it can of what the labelled texts and the choices before it are not like.

    Source: facility location, solved greedily (Wei, Iyer, Bilmes 2015, "Submodularity in data subset selection").
    """

    name = "diversity"

    def choose(self, view: View, n: int) -> list[Choice]:
        import numpy as np

        rows = view.open
        if len(rows) > MOST:
            rows = np.sort(view.rng.permutation(rows)[:MOST])
        return cover(view, rows, np.ones(len(rows)), n)


def cover(view: View, rows: np.ndarray, weight: np.ndarray, n: int) -> list[Choice]:
    """At most n of `rows`, one after the other, each where it adds most likeness to what is not covered, by weight."""
    import numpy as np

    dense = view.features.dense
    alike = np.maximum(dense[rows] @ dense[rows].T, 0)
    covered = np.zeros(len(rows), dtype=np.float32)
    for start in range(0, len(view.labelled), MOST):
        part = dense[view.labelled[start : start + MOST]]
        covered = np.maximum(covered, (dense[rows] @ part.T).max(axis=1))
    weight = weight.astype(np.float32)
    free = np.ones(len(rows), dtype=bool)
    choices = []
    for _ in range(min(n, len(rows))):
        gain = weight @ np.maximum(alike - covered[:, None], 0)
        gain[~free] = -1
        best = int(gain.argmax())
        near = int(((alike[:, best] > ALIKE) & (covered < alike[:, best])).sum()) - 1
        if near > 0:
            why = f"{near} more like it, none of them labelled" if near > 1 else "one more like it, not labelled"
        else:
            why = "unlike all that is labelled" if covered[best] < ALIKE else ""
        choices.append(Choice(int(rows[best]), why))
        free[best] = False
        covered = np.maximum(covered, alike[:, best])
    return choices
