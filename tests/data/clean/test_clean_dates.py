"""Dates: every written form to one, by the evidence of its source; what is unsure or no date stays."""

from typing import Any

import pytest

from attune.data.clean.dates import Dates
from attune.data.desk import Desk
from attune.data.steps import Context, apply_edits
from attune.records import Message, Record, Span


def record(number: int, text: str, where: str = "a.csv", **more: Any) -> Record:
    return Record(f"{where}{number}", (Message("user", text),), where=f"{where}:{number}", **more)


def learned(*texts: str, **options: Any) -> Dates:
    step = Dates(Dates.Config(**options), Context())
    step.learn([record(number, text) for number, text in enumerate(texts)])
    return step


def after(step: Dates, text: str) -> str:
    return apply_edits(text, step.edits(text))


@pytest.mark.parametrize(
    ("written", "date"),
    [
        ("8 Dec 2024", "2024-12-08"),
        ("8th of December, 2024", "2024-12-08"),
        ("December 8, 2024", "2024-12-08"),
        ("DECEMBER 8 2024", "2024-12-08"),
        ("Dec. 8th, '24", "2024-12-08"),
        ("May. 30, 2023", "2023-05-30"),
        ("Sept. 11, 2001", "2001-09-11"),
        ("Sep. 11, 2001", "2001-09-11"),
        ("8-Dec-2024", "2024-12-08"),
        ("8-Dec-24", "2024-12-08"),
        ("2024/12/08", "2024-12-08"),
        ("2024.12.8", "2024-12-08"),
        ("12/31/2024", "2024-12-31"),
        ("31.12.2024", "2024-12-31"),
        ("31-12-2024", "2024-12-31"),
        ("12/31/'24", "2024-12-31"),
        ("12/31/24", "2024-12-31"),
        ("7/7/2024", "2024-07-07"),
        ("12/31/75", "1975-12-31"),
        ("3. März 2024", "2024-03-03"),
        ("1er janvier 2024", "2024-01-01"),
        ("30 de mayo de 2023", "2023-05-30"),
        ("5 luglio 2021", "2021-07-05"),
        ("29 February 2024", "2024-02-29"),
    ],
)
def test_written_forms(written: str, date: str) -> None:
    assert after(learned(), f"On {written}, it was ({written}).") == f"On {date}, it was ({date})."


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.2024", "v10.12.2024", "release 12/31/2024", "1.2.3.2024", "192.168.12.24", "O.C.G.A. § 12-9-2017",
        "34-9-17", "12-09-17", "31.12.24", "odds 7/7/20", "tel. 31-12-2024", "1/31/20245", "10/12", "24/7", "May 2024",
        "march 3", "id 12/31/2024/7", "x12/31/2024", "$12/31/2024", "12:31:2024",
    ],
)  # fmt: skip
def test_what_is_no_date_stays(text: str) -> None:
    assert after(learned(order="month_first"), text) == text


def test_impossible_ones_stay_and_are_counted() -> None:
    step = learned()
    text = "31 February 2024, 2/30/2024, 13/13/2024, 2024/13/01, Feb 29, 2023"
    assert after(step, text) == text
    assert step.facts()["impossible_left"] == 5 and "13/13/2024" in step.facts()["examples_left"]["impossible"]


def test_the_order_is_learned() -> None:
    day_first = learned("am 13.1.2024", "25/12/2023", "31-1-2022 und 1.2.2024")
    assert after(day_first, "3/4/2025") == "2025-04-03"
    month_first = learned("1/13/2024", "12/25/2023", "1/31/22")
    assert after(month_first, "3/4/2025") == "2025-03-04"
    assert month_first.facts()["orders"] == {"": "month_first", "a.csv": "month_first"}


@pytest.mark.parametrize("texts", [(), ("1/13/2024",) * 2, ("1/13/2024", "13/1/2024") * 10])
def test_without_clear_evidence_it_stays_and_is_counted(texts: tuple[str, ...]) -> None:
    step = learned(*texts)
    assert after(step, "3/4/2025 and 3/14/2025") == "3/4/2025 and 2025-03-14"
    assert step.facts()["ambiguous_left"] == 1


def test_one_slip_among_many_does_not_count_as_evidence() -> None:
    assert after(learned(*["1/13/2024"] * 99, "13/1/2024"), "3/4/2025") == "2025-03-04"


def test_each_source_has_its_own_order() -> None:
    step = Dates()
    british = [record(number, "on 25/12/2023", "uk.csv") for number in range(5)]
    american = [record(number, "on 12/25/2023", "us.csv") for number in range(5)]
    step.learn([*british, *american])

    def read(one: Record) -> str:
        change = step.apply(one)
        return change.record.text if change and change.record else one.text

    assert read(record(9, "3/4/2025", "uk.csv")) == "2025-04-03"
    assert read(record(9, "3/4/2025", "us.csv")) == "2025-03-04"
    assert read(record(9, "3/4/2025", "")) == "3/4/2025"  # a request: the sources contradict one another
    again = Dates()
    again.restore(step.state())
    assert [again.apply(record(9, "3/4/2025", where)) for where in ("uk.csv", "")] == [
        step.apply(record(9, "3/4/2025", where)) for where in ("uk.csv", "")
    ]


def test_options() -> None:
    assert after(learned(order="day_first"), "3/4/2025") == "2025-04-03"
    assert after(learned(pivot=80), "12/31/75") == "2075-12-31"
    assert after(learned("1/13/2024", min_evidence=1), "3/4/2025") == "2025-03-04"


def test_columns_and_spans_at_the_desk(tmp_path: Any) -> None:
    rows = [
        record(number, f"Hurt on 1/{13 + number}/2024 at work.", meta={"received": f"2/{number + 1}/'24", "n": number},
               label=(Span(8, 17, "DATE"), Span(21, 25, "PLACE")))
        for number in range(5)
    ]  # fmt: skip
    step = Dates(Dates.Config(columns=["received"]), Context("tagging"))
    parts = Desk([step], tmp_path).run({"train": rows})
    first = parts["train"][0]
    assert first.text == "Hurt on 2024-01-13 at work." and first.meta["received"] == "2024-02-01"
    assert [first.text[span.start : span.end] for span in first.label] == ["2024-01-13", "work"]  # type: ignore[union-attr]
    ledger = (tmp_path / "ledger.jsonl").read_text()
    assert '"field": "meta.received", "at": 0, "before": "2/1/\'24", "after": "2024-02-01"' in ledger
