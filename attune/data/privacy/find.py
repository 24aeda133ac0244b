"""All personal data in a text: every detector's hits, the surer kind first where two overlap."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable

from attune.data.privacy.detectors import detectors
from attune.data.privacy.detectors.base import PLACEHOLDER, Found

__all__ = ["Finder", "find", "normal_value"]

OPAQUE = "ꓽ"
"""A letter (of the Lisu script) that no detector knows."""
Detector = tuple[int, Callable[[str], list[Found]]]
"""Priority and `find`."""


class Finder:
    """Finds the chosen kinds.

    `keep` are values that are no secret (a help line, the company's own address); letter case and the spaces, hyphens
    and dots between characters do not matter. `more` are detectors beside the built-in ones, such as a name tagger.
    """

    def __init__(
        self, kinds: Collection[str] | None = None, *, keep: Iterable[str] = (), more: Iterable[Detector] = ()
    ):
        """`kinds` None: all."""
        self.kinds = None if kinds is None else frozenset(kinds)
        self.keep = frozenset(normal_value(value) for value in keep)
        built_in: list[Detector] = [
            (module.PRIORITY, module.find)
            for module in detectors()
            if self.kinds is None or self.kinds.intersection(module.KINDS)
        ]
        self.detectors = sorted([*built_in, *more], key=lambda pair: -pair[0])

    def __call__(self, text: str) -> list[Found]:
        """What is found, in order, not overlapping. A text with all of it masked holds nothing more to find."""
        found: list[Found] = []
        while new := self._once(_masked(text, found)):
            shifts = _shifts(found)
            found = sorted([*found, *(_back(hit, shifts) for hit in new)])
        return found

    def _once(self, text: str) -> list[Found]:
        taken: list[tuple[int, int]] = [match.span() for match in PLACEHOLDER.finditer(text)]
        # to the detectors a masked value is a word that says nothing: what stands beside it is judged as it was before
        text = PLACEHOLDER.sub(lambda match: OPAQUE * len(match.group()), text)
        chosen: list[Found] = []
        for _, detect in self.detectors:
            for hit in sorted(detect(text), key=lambda hit: (-hit.score, hit.start, -hit.end)):
                if self.kinds is not None and hit.kind not in self.kinds:
                    continue
                if self.keep and normal_value(text[hit.start : hit.end]) in self.keep:
                    _free(taken, hit.start, hit.end)  # nor anything inside it
                    continue
                if hit.start < hit.end and _free(taken, hit.start, hit.end):
                    chosen.append(hit)
        return sorted(chosen)


def find(text: str, kinds: Collection[str] | None = None) -> list[Found]:
    """What the built-in detectors find in a text."""
    return Finder(kinds)(text)


def normal_value(value: str) -> str:
    """One spelling for one value: `+1 (555) 010-9999` and `+15550109999` are the same."""
    return "".join(char for char in value.casefold() if char.isalnum() or char in "@+")


def _free(taken: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether no taken stretch overlaps; if so, this one is taken now. `taken` stays in order."""
    at = bisect_right(taken, (start, end))
    if at and taken[at - 1][1] > start or at < len(taken) and taken[at][0] < end:
        return False
    taken.insert(at, (start, end))
    return True


def _masked(text: str, found: list[Found]) -> str:
    parts, done = [], 0
    for hit in found:
        parts += [text[done : hit.start], mask(hit.kind)]
        done = hit.end
    return "".join([*parts, text[done:]])


def mask(kind: str) -> str:
    """What stands for a value of this kind: `[EMAIL]`."""
    return f"[{kind.upper()}]"


def _shifts(found: list[Found]) -> list[tuple[int, int]]:
    """Where, in the masked text, positions begin to differ from the original, and by how much."""
    shifts, shift = [], 0
    for hit in found:
        shift += (hit.end - hit.start) - len(mask(hit.kind))
        shifts.append((hit.end - shift, shift))
    return shifts


def _back(hit: Found, shifts: list[tuple[int, int]]) -> Found:
    at = bisect_right(shifts, (hit.start, 1 << 60))
    shift = shifts[at - 1][1] if at else 0
    return hit._replace(start=hit.start + shift, end=hit.end + shift)
