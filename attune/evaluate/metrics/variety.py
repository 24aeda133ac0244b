"""Whether answers go on without repeating themselves, and stay in their own part of a conversation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from attune.evaluate.metrics.texts import answers

if TYPE_CHECKING:
    import numpy as np

    from attune.evaluate.predictions import Predictions
    from attune.records import Record

FOREIGN = re.compile(
    r"(?m)^\s*(?:#{2,}\s*)?(?:user|human|assistant|system|instruction|response)\s*:|<\|[\w /-]+\|>|\[/?INST\]|<</?SYS>>"
    r"|<(?:start|end)_of_turn>",
    re.IGNORECASE,
)
"""Signs that an answer goes on into another turn."""


class _Distinct:
    """Different n-grams of words over all, counted within each answer. Shapes: statistics [N, 2]."""

    tasks = ("generation",)
    higher_is_better = True
    n: ClassVar[int]

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        rows = []
        for answer in answers(predictions):
            words = answer.lower().split()
            grams = list(zip(*(words[at:] for at in range(self.n))))
            rows.append((len(set(grams)), len(grams)))
        return np.array(rows, dtype=float).reshape(-1, 2)

    def value(self, statistics: np.ndarray) -> float:
        different, total = statistics.sum(axis=0)
        return float(different / total) if total else float("nan")


class Distinct1(_Distinct):
    """Share of the words of an answer that it says for the first time. Source: Li et al. 2016 (arXiv:1510.03055),
    counted within answers: a loop brings it down."""

    name = "distinct_1"
    n = 1


class Distinct2(_Distinct):
    """Share of the word pairs of an answer that it says for the first time. Source: Li et al. 2016 (arXiv:1510.03055),
    counted within answers: a loop brings it down."""

    name = "distinct_2"
    n = 2


class CleanFormat:
    """Share of answers that say something and stay in their own turn: no speaker's name, no control token in them."""

    name = "clean_format"
    tasks = ("generation",)
    higher_is_better = True

    def statistics(self, records: list[Record], predictions: Predictions) -> np.ndarray:
        import numpy as np

        clean = [bool(answer.strip()) and not FOREIGN.search(answer) for answer in answers(predictions)]
        return np.array(clean, dtype=float)[:, None]

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean()) if len(statistics) else float("nan")
