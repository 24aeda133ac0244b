"""Any text, each as likely as the others."""

from __future__ import annotations

from attune.data.label.strategies.base import Choice, Strategy, View


class Random(Strategy):
    """Chance: slower to learn from, and the only way whose labels show how frequent each one is."""

    name = "random"

    def choose(self, view: View, n: int) -> list[Choice]:
        drawn = view.rng.permutation(view.open)[:n]
        return [Choice(int(row), "drawn by chance") for row in drawn]
