"""Boilerplate: what many documents share goes, unless it is all there is or it tells the label."""

import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

from attune.data.clean.boilerplate import Boilerplate
from attune.data.steps import Context, apply_edits
from attune.records import Message, Record

FOOTER = "This message is confidential. If you are not the addressee, delete it!"


def record(number: int, text: str, label: str | None = None) -> Record:
    return Record(str(number), (Message("user", text),), label=label)


def learned(records: Sequence[Record], **options: Any) -> Boilerplate:
    step = Boilerplate(Boilerplate.Config(**options), Context())
    step.learn(records)
    return step


def after(step: Boilerplate, text: str) -> str:
    return apply_edits(text, step.edits(text))


MAILS = [
    record(n, f"Header of Acme Corp, page {n}\nThe {'very ' * n}quick fox jumps. {FOOTER} It was {'so ' * n}long ago!")
    for n in range(40)
]


def test_lines_and_sentences_that_all_share_go() -> None:
    step = learned(MAILS)
    text = f"HEADER of  Acme corp, page 977\nA new thing happened. {FOOTER} It rained."
    assert after(step, text) == "A new thing happened. It rained."
    assert [edit.reason for edit in step.edits(text)] == ["stands in many documents"] * 3
    assert {row["documents"] for row in step.facts()["most_common"]} == {40}


def test_units() -> None:
    lines, sentences = learned(MAILS, units="lines"), learned(MAILS, units="sentences")
    text = f"Header of Acme Corp, page 1\nNew. {FOOTER} End"
    assert after(lines, text) == f"New. {FOOTER} End"
    assert after(sentences, text) == "New. End"


def test_share_and_count_decide() -> None:
    rows = [
        record(n, f"Row {'abcdefghij'[n % 10] * (n + 1)} is here." + (" Kind regards, Bob." * (n < 8)))
        for n in range(100)
    ]
    text = "Something else. Kind regards, Bob."
    assert after(learned(rows), text) == text  # 8 %
    assert after(learned(rows, share=0.05), text) == "Something else. "
    assert after(learned(rows, share=0.05, min_count=9), text) == text
    assert after(learned(rows, share=0.05, min_chars=40), text) == text


def test_a_line_repeated_in_one_document_counts_once() -> None:
    rows = [record(0, "same old line here\n" * 50), *(record(n, f"text {'x' * n}") for n in range(1, 20))]
    assert learned(rows, min_count=2).known == frozenset()


def test_what_is_nothing_else_stays() -> None:
    step = learned(MAILS)
    assert after(step, FOOTER) == FOOTER


def test_what_tells_the_label_stays() -> None:
    rows = [
        record(
            n,
            f"Case {'x' * n}. Benefits were {'granted' if n % 2 else 'refused'} today. Printed on recycled paper.",
            "yn"[n % 2],
        )
        for n in range(200)
    ]
    step = learned(rows)
    assert after(step, "A case. Benefits were granted today. Printed on recycled paper.") == (
        "A case. Benefits were granted today. "
    )
    kept = {row["text"] for row in step.facts()["kept_because_they_tell_the_label"]}
    assert kept == {"Benefits were granted today.", "Benefits were refused today."}
    assert after(learned(rows, keep_telling=False), "A case. Benefits were granted today. Bye.") == "A case. Bye."


class Stream(Sequence[Record]):
    """Records made when asked for, as a spool reads them."""

    def __init__(self, rows: int):
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: Any) -> Any:
        name = str(index).translate(str.maketrans("0123456789", "abcdefghij"))  # digits alone make no difference
        return record(index, f"A line of its own, number {name}.\n{FOOTER}")

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(self.rows))


def test_memory_does_not_grow_with_the_rows() -> None:
    learned(Stream(10))  # what is imported only once does not count
    peaks = []
    for rows in (1_000, 8_000):
        tracemalloc.start()
        step = learned(Stream(rows), keep_telling=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(step.known) == 3  # the line, and its two sentences
    assert peaks[1] < peaks[0] + 200_000, peaks
