"""Rows with the same text but for case, spacing and punctuation."""

from __future__ import annotations

from collections.abc import Sequence

from attune.data.duplicates.base import Copies, Deduplicate, Link
from attune.data.spool import Texts
from attune.records import Record


class NormalisedDuplicates(Deduplicate):
    """Leaves out rows that differ from another in nothing but Unicode form, case, spacing and punctuation at the
    borders of words."""

    name = "normalised_duplicates"
    measure = ""

    def copies(self, train: Sequence[Record]) -> Copies:
        import numpy as np

        from attune.data.dedupe import same_texts

        same = same_texts(Texts(train), normalised=True)
        none = np.zeros(0, np.int64)
        return Copies(same, same, none, none, np.zeros(0))

    def reason(self, link: Link) -> str:
        return "the same text as another row but for case, spacing or punctuation"
