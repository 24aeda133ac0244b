"""Rows with the very same text."""

from __future__ import annotations

from collections.abc import Sequence

from attune.data.duplicates.base import Copies, Deduplicate, Link
from attune.data.spool import Texts
from attune.records import Record


class ExactDuplicates(Deduplicate):
    """Leaves out every row whose text, prompt and answers together, is the very text of another."""

    name = "exact_duplicates"
    measure = ""

    def copies(self, train: Sequence[Record]) -> Copies:
        import numpy as np

        from attune.data.dedupe import same_texts

        same = same_texts(Texts(train), normalised=False)
        none = np.zeros(0, np.int64)
        return Copies(same, same, none, none, np.zeros(0))

    def reason(self, link: Link) -> str:
        return "the same text as another row"
