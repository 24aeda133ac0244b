"""Rows that say nearly the same in nearly the same words."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from attune.data.duplicates.base import Copies, Deduplicate, Link
from attune.data.spool import Texts
from attune.plugins import Options
from attune.records import Record


class NearDuplicates(Deduplicate):
    """Leaves out rows whose words are nearly those of another (exact and normalised copies too).

    MinHash proposes pairs and the true Jaccard similarity of their shingles decides: see `attune.data.minhash`.
    """

    name = "near_duplicates"

    class Config(Options):
        threshold: float = Field(default=0.8, ge=0.5, le=1.0)
        """From this share of common shingles on (Jaccard: 3 words each, of short texts 4 characters) two rows are
        the same."""

    def copies(self, train: Sequence[Record]) -> Copies:
        from attune.data.dedupe import duplicate_clusters

        found = duplicate_clusters(Texts(train), threshold=self.options.threshold, seed=self.context.seed)
        near = found.kind == 2
        links = found.links[near]
        facts = {
            **{kind: found.counts[kind] for kind in ("exact", "normalised", "near")},
            "clusters": found.counts["clusters"],
            "largest": found.counts["largest"],
            "estimated_recall": round(found.estimated_recall, 5),
            "not_compared_at_most": found.skipped,
        }
        return Copies(found.same, found.ids, links[:, 0], links[:, 1], found.jaccard[near], facts)

    def reason(self, link: Link) -> str:
        return "nearly the same text as another row" if link.likeness < 1 else "the same text as another row"
