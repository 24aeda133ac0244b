"""What a strategy is: it looks at what is labelled and what is not, and says which texts to ask next, and why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from attune.data.label.features import Features

__all__ = ["Choice", "View", "Strategy", "doubt", "undecided"]


class Choice(NamedTuple):
    """A text to ask, by row, and one sentence that says why."""

    row: int
    why: str


@dataclass
class View:
    """What a strategy sees. Rows are positions in `features`."""

    features: Features
    labelled: np.ndarray
    open: np.ndarray
    """Rows that may be asked."""
    labels: tuple[str, ...]
    seen: int
    """Labels that some labelled text has."""
    chances: np.ndarray | None
    """Probability of each label for every row, [N, C]; None while there is no model."""
    committee: Callable[[], list[np.ndarray]]
    """The same from several models, fitted when asked: empty while there is nothing to tell apart."""
    several: bool
    rng: np.random.Generator


class Strategy(ABC):
    """The same view gives the same choices."""

    name: ClassVar[str]

    @abstractmethod
    def choose(self, view: View, n: int) -> list[Choice]:
        """At most n of `view.open`, the best first."""


def doubt(chances: np.ndarray, several: bool) -> np.ndarray:
    """How undecided a model is about each row, 0 to 1: 1 - (margin between the two best answers).

    With several labels: the nearness to both yes and no, of each label as a share of the nearest row's, so that a rare
    label, of which a model is seldom in doubt, is asked about too; then the highest of all labels.
    """
    import numpy as np

    if several:
        near = 1 - np.abs(2 * chances - 1)
        return (near / np.maximum(near.max(axis=0), 1e-9)).max(axis=1)
    best = np.partition(chances, -2, axis=1)[:, -2:]
    return 1 - (best[:, 1] - best[:, 0])


def undecided(chances: np.ndarray, labels: tuple[str, ...], several: bool) -> str:
    """What the model is undecided about, for one row."""
    import numpy as np

    if several:
        label = int(np.abs(2 * chances - 1).argmin())
        return f"the model is undecided about {labels[label]} ({chances[label]:.0%})"
    second, first = np.argsort(chances, kind="stable")[-2:]
    return (
        f"the model is undecided between {labels[first]} ({chances[first]:.0%}) "
        f"and {labels[second]} ({chances[second]:.0%})"
    )
