"""What steps share that let an endpoint say a record's text in other words: which text, the checks, the new record."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from attune.data.augment.base import drawn, is_made, made, spans_of
from attune.data.augment.checks import fault
from attune.data.steps import Change, Context, Step
from attune.endpoint import Answer, Ask, Endpoint, EndpointOptions
from attune.plugins import Options
from attune.records import Record, Span

__all__ = ["Rewriting", "RewritingOptions", "asked", "written"]

LABEL_SAMPLE_CHARS = 4000


class RewritingOptions(Options):
    """Which texts are rewritten, by whom, and what is let through."""

    endpoint: EndpointOptions
    """The server that writes. What the records say is sent there."""
    share: float = Field(1.0, gt=0, le=1)
    """Share of the training records that are rewritten."""
    least_shared: float = Field(0.15, ge=0, le=1)
    """Least share of content words that both texts have (counted on the smaller one); below it a text is left out."""
    longest_ratio: float = Field(2.5, ge=1)
    """A text that is this many times longer or shorter is left out."""
    check_labels: bool = False
    """Ask the endpoint once more for each new text: its class, out of the classes of the training part, must be the
    row's; without classes, whether both texts ask for the same."""


def asked(instruction: str, text: str, **more: Any) -> Ask:
    """One question: what to do, and the text as data."""
    return Ask(({"role": "system", "content": instruction}, {"role": "user", "content": text}), **more)


def written(answer: Answer) -> str | None:
    """The text an endpoint wrote, without the quotation marks and labels that models put around one."""
    text = (answer.whole or "").strip()
    if len(text) > 1 and (text[0], text[-1]) in (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»")):
        inner = text[1:-1]
        text = inner.strip() if text[0] not in inner else text
    return text or None


class Rewriting(Step):
    """Endpoint work happens in `learn`, in bulk and through the journal; `apply` looks up."""

    reason: ClassVar[str]
    learns = True
    tasks = ("classification", "multilabel", "regression", "tagging", "generation")

    def __init__(self, options: Any = None, context: Context | None = None):
        super().__init__(options, context)
        self._texts: dict[int, list[str]] = {}
        self._left_out: Counter[str] = Counter()
        self._took: dict[str, Any] = {}

    @abstractmethod
    def rewritten(self, endpoint: Endpoint, texts: Sequence[str]) -> list[list[str | None]]:
        """For each text the candidates; None where there was no answer."""

    def learn(self, train: Sequence[Record]) -> None:
        """Raises: MachineError from the endpoint; what was answered is in the journal."""
        chosen, labels = [], set()
        for number, record in enumerate(train):
            if isinstance(record.label, str):
                labels.add(record.label)
            if is_made(record) or not drawn(record, self.options.share, self.context.seed, self.name):
                continue
            if _place(record) is not None:
                chosen.append((number, record))
        folder = self.context.journal
        with Endpoint(self.options.endpoint, journal=folder / self.name if folder else None) as endpoint:
            texts = [record.prompt[_place(record) or 0].content for _, record in chosen]
            found = self.rewritten(endpoint, texts)
            pairs: list[tuple[int, Record, str, str]] = []
            for (number, record), before, candidates in zip(chosen, texts, found):
                seen = set()
                for after in candidates:
                    why = self._fault(record, before, after) if after is not None else "no answer"
                    if why is None and after in seen:
                        why = "repeated"
                    if why is not None or after is None:
                        self._left_out[why or ""] += 1
                        continue
                    seen.add(after)
                    pairs.append((number, record, before, after))
            kept = self._checked(endpoint, pairs, sorted(labels)) if self.options.check_labels and pairs else pairs
            for number, _, _, after in kept:
                self._texts.setdefault(number, []).append(after)
            self._took = endpoint.facts()

    def _fault(self, record: Record, before: str, after: str) -> str | None:
        why = fault(before, after, least_shared=self.options.least_shared, longest_ratio=self.options.longest_ratio)
        if why is None and spans_of(record) and _moved(record, after) is None:
            return "an entity is lost"
        return why

    def _checked(self, endpoint: Endpoint, pairs: list, labels: list[str]) -> list:
        asks = []
        for _, record, before, after in pairs:
            if isinstance(record.label, str):
                told = "Classify the text into exactly one of these classes. Answer with the class alone."
                asks.append(asked(f"{told}\nClasses: {', '.join(labels)}", after, temperature=0.0))
            else:
                told = "Do the two texts say the same, with the same facts? Answer with yes or no alone."
                both = f"First:\n{before[:LABEL_SAMPLE_CHARS]}\n\nSecond:\n{after[:LABEL_SAMPLE_CHARS]}"
                asks.append(asked(told, both, temperature=0.0))
        kept = []
        for pair, answer in zip(pairs, endpoint.ask(asks)):
            wanted = pair[1].label if isinstance(pair[1].label, str) else "yes"
            if (answer.whole or "").strip().strip(".\"'").lower() == wanted.lower():
                kept.append(pair)
            else:
                self._left_out["label not confirmed"] += 1
        return kept

    def apply(self, record: Record, number: int) -> Change | None:
        added = []
        for at, text in enumerate(self._texts.get(number, ()), 1):
            content = _with_text(record, text)
            added.append(made(record, content, self.name, at))
        return Change.add(record, added, self.reason) if added else None

    def facts(self) -> dict[str, Any]:
        return {"endpoint": self._took, "left_out": dict(sorted(self._left_out.items()))}


def _place(record: Record) -> int | None:
    """Position of the message that is rewritten: the last one of the user."""
    places = [at for at, message in enumerate(record.prompt) if message.role in ("user", "text")]
    if not places or not record.prompt[places[-1]].content.strip():
        return None
    if spans_of(record) and len(record.prompt) > 1:
        return None
    return places[-1]


def _with_text(record: Record, text: str) -> Record:
    place = _place(record) or 0
    prompt = tuple(replace(m, content=text) if at == place else m for at, m in enumerate(record.prompt))
    label = _moved(record, text) if spans_of(record) else record.label
    # Places of the old text's words say nothing of the new one; its words are found again.
    meta = {key: value for key, value in record.meta.items() if key != "tokens"}
    return replace(record, prompt=prompt, label=label, meta=meta)


def _moved(record: Record, text: str) -> tuple[Span, ...] | None:
    """The record's spans in another text: each must be there word for word, as often as before; else None."""
    before = record.text
    found = []
    for what in sorted({(before[span.start : span.end], span.label) for span in spans_of(record)}):
        wanted = sum(1 for span in spans_of(record) if (before[span.start : span.end], span.label) == what)
        if before.count(what[0]) != wanted or text.count(what[0]) != wanted:
            return None
        start = -1
        for _ in range(wanted):
            start = text.index(what[0], start + 1)
            found.append(Span(start, start + len(what[0]), what[1]))
    found.sort(key=lambda span: (span.start, span.end))
    if any(right.start < left.end for left, right in zip(found, found[1:])):
        return None
    return tuple(found)
