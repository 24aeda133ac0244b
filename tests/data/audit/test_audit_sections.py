"""Each section of the audit measures what it says, on data whose answer is known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from scipy.stats import binomtest

from attune.data.audit import AuditOptions, audit
from attune.data.audit.association import associations, holm
from attune.data.audit.groups import wilson
from attune.data.audit.terms import FOLDER, function_words, language_of, mentions
from attune.data.audit.view import View, excerpt, words
from attune.data.features import tfidf
from attune.errors import DataError
from attune.records import Completion, Label, Message, Record, Span

LANGUAGES = ("en", "de", "fr", "es")


def record(number: int, text: str, label: Label = None, **meta: Any) -> Record:
    return Record(f"r{number}", (Message("user", text),), label=label, meta=meta)


def rows(texts: Sequence[str], labels: Sequence[Label]) -> list[Record]:
    return [record(number, text, label) for number, (text, label) in enumerate(zip(texts, labels))]


def sections(parts: dict[str, list[Record]], task: str = "classification", **more: Any) -> dict[str, Any]:
    return audit(parts, task, **more)["sections"]


def test_balance_weights_and_advice() -> None:
    train = rows(["a text"] * 100, ["big"] * 80 + ["mid"] * 18 + ["tiny"] * 2)
    found = sections({"train": train, "test": [record(0, "a text", "new")]})["balance"]
    by = {row["label"]: row for row in found["classes"]}
    assert by["big"]["weight"] == round(100 / (3 * 80), 3) and by["tiny"]["weight"] == round(100 / 6, 3)
    assert by["tiny"]["resample"] == round(math.sqrt(40), 2) and by["big"]["resample"] == 1
    assert found["imbalance_ratio"] == 40 and found["few"] == ["tiny"] and found["missing_in_train"] == ["new"]
    assert found["majority"] == {"label": "big", "share": 0.8}
    assert any("macro F1" in line for line in found["advice"])


def test_two_classes_get_a_threshold() -> None:
    found = sections({"train": rows(["a text"] * 100, ["no"] * 90 + ["yes"] * 10)})["balance"]
    assert any("0.100" in line and "'yes'" in line for line in found["advice"])


def test_lengths_without_and_with_a_tokenizer() -> None:
    train = rows(["word " * 10] * 9 + ["word " * 100], ["a", "b"] * 5)
    found = sections({"train": train}, options=AuditOptions(max_lengths=(64, 128)))["lengths"]
    assert found["unit"] == "words"
    cut = found["truncation"][0]["train"]
    assert cut == {"rows_cut": 1, "rows_share": 0.1, "lost_share": round(36 / 190, 5)}
    assert found["truncation"][1]["train"]["rows_cut"] == 0
    assert sum(found["histogram"]["counts"]) == 10

    def halves(texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0] * (2 * len(text.split())) for text in texts]}

    found = sections({"train": train}, tokenizer=halves)["lengths"]
    assert found["unit"] == "tokens" and found["parts"]["train"]["tokens"]["largest"] == 200


def test_diversity_on_one_size() -> None:
    same = rows(["how do i do this"] * 200, ["a", "b"] * 100)
    varied = [record(row, " ".join(f"w{row * 7 + n}x" for n in range(7)), "a") for row in range(100)]
    found = sections({"train": same, "test": varied})["diversity"]
    train, test = found["parts"]["train"], found["parts"]["test"]
    assert train["words"] == test["words"] == found["sample_words"] == 1000
    assert train["distinct_1"] == 0.004 and train["vocabulary"] == 4  # how do i this
    assert train["distinct_1"] < test["distinct_1"]
    assert found["openings"][0] == {"opening": "how do i", "rows": 200, "share": 1.0}


def test_spurious_words_are_found_and_named() -> None:
    dice = random.Random(0)
    filler = "stone river light paper green window little garden number sound".split()
    train = []
    for row in range(400):
        label = "refund" if row % 2 else "delay"
        text = " ".join(dice.sample(filler, 4))
        if label == "refund" and row % 4 == 1:
            text += " zebra"
        if label == "delay" and row % 3 == 0:
            text += " herself"
        train.append(record(row, text + " the", label))
    found = sections({"train": train})["spurious"]
    by = {row["word"]: row for row in found["suspicious"]}
    assert by["zebra"]["kind"] == "gives the label away" and by["zebra"]["label"] == "refund"
    assert by["herself"]["kind"] == "names a group of people" and by["herself"]["share"] == 1.0
    assert "the" not in by and set(by) == {"zebra", "herself"}
    assert all("zebra" in example["text"] for example in by["zebra"]["examples"])


def test_chance_is_no_association() -> None:
    dice = random.Random(1)
    vocabulary = [f"w{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(300)]
    texts = [dice.sample(vocabulary, 12) for _ in range(500)]
    assert associations(texts, [(dice.choice("abc"),) for _ in texts]) == []


def test_chi_square_is_that_of_scipy() -> None:
    from scipy.stats import chi2_contingency

    texts = [["x"]] * 30 + [["y"]] * 20 + [["x"]] * 5 + [["y"]] * 45
    found = associations(texts, [("a",)] * 50 + [("b",)] * 50)
    one = next(row for row in found if row.word == "x" and row.label == "a")
    expected = chi2_contingency([[30, 20], [5, 45]])[1] * 4  # two words, two classes
    assert one.p == pytest.approx(expected, rel=0.01) and (one.rows, one.hits, one.label_rows) == (35, 30, 50)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (120, 1000)])
def test_wilson_is_that_of_scipy(hits: int, count: int) -> None:
    oracle = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((oracle.low, oracle.high), abs=1e-4)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The 61-year-old Black woman uses a wheelchair.", {"gender": {"female"}, "disability": {"mobility"}}),
        ("en", "A young man at the mosque", {"gender": {"male"}, "age": {"young"}, "religion": {"Muslim"}}),
        ("de", "Die Großmutter ist schwerhörig", {"gender": {"female"}, "disability": {"sight or hearing"}}),
        ("fr", "un homme de 45 ans en fauteuil roulant", {"gender": {"male"}, "disability": {"mobility"}}),
        ("es", "La mujer embarazada habla con el rabino", {"gender": {"female"}, "religion": {"Jewish"}}),
        ("en", "the cabinet is overshadowed", {}),
    ],
)
def test_group_terms(language: str, text: str, expected: dict[str, set[str]]) -> None:
    found = mentions(text, language)
    for attribute, groups in expected.items():
        assert found[attribute] == groups, found
    if not expected:
        assert found == {}


def test_ages_in_figures() -> None:
    assert mentions("a 61 y/o woman, aged 61", "en")["age"] == {"60 and over"}
    assert mentions("eine 17-jährige Schülerin", "de")["age"] == {"under 18"}
    assert mentions("una mujer de 35 años", "es")["age"] == {"30 to 44"}
    assert "age" not in mentions("room 400, 2 years later", "en")


def test_every_language_has_every_group() -> None:
    lists = {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in LANGUAGES}
    groups = {name: {a: list(g) for a, g in found["groups"].items()} for name, found in lists.items()}
    assert groups["en"] == groups["de"] == groups["fr"] == groups["es"]
    assert set(groups["en"]) == {"gender", "age", "ethnicity", "religion", "disability"}
    assert all(len(found["function_words"]) > 80 for found in lists.values())


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("where is the card that I ordered", "en"),
        ("wo ist die Karte, die ich bestellt habe", "de"),
        ("où est la carte que j'ai commandée", "fr"),
        ("dónde está la tarjeta que he pedido", "es"),
        ("42", ""),
    ],
)
def test_language_by_function_words(text: str, language: str) -> None:
    assert language_of(words(text), LANGUAGES) == language
    assert len(function_words(LANGUAGES)) > 400


def test_label_rates_differ_or_do_not() -> None:
    def train(share: float) -> list[Record]:
        made = []
        for row in range(400):
            woman = row % 2 == 0
            refused = (row // 2) % 10 < (share * 10 if woman else 2)
            text = f"the {'woman' if woman else 'man'} filed claim {row}"
            made.append(record(row, text, "refused" if refused else "granted"))
        return made

    fair = sections({"train": train(0.2)})["rates"]
    biased = sections({"train": train(0.8)})["rates"]
    assert fair["clear"] == 0 and fair["tests"] > 0
    one = biased["rows"][0]
    assert one["p"] < 1e-10 and {one["group"], one["label"]} <= {"female", "male", "refused", "granted"}
    row = next(row for row in biased["rows"] if row["group"] == "female" and row["label"] == "refused")
    assert row["rate"] == 0.8 and row["other_rate"] == 0.2 and row["low"] < 0.8 < row["high"]


def test_columns_name_groups_too() -> None:
    train = [record(row, "some text here", "yes" if row % 4 else "no", region="north" if row % 2 else "south") for row in range(200)]  # fmt: skip  # noqa: E501
    found = sections({"train": train}, options=AuditOptions(columns=("region",)))["rates"]
    assert {row["group"] for row in found["rows"]} == {"north", "south"} and found["clear"] > 0


def test_comparison_sees_shift_and_sees_none() -> None:
    dice = random.Random(5)
    here = "account money bank card payment transfer charge balance".split()
    there = "goal match player team league score coach season".split()

    def part(vocabulary: list[str], start: int, share: float) -> list[Record]:
        return [
            record(start + row, " ".join(dice.sample(vocabulary, 5)), "a" if row < share * 200 else "b")
            for row in range(200)
        ]

    train = part(here, 0, 0.5)
    found = sections({"train": train, "validation": part(here, 1000, 0.5), "test": part(there, 2000, 0.9)})[
        "comparison"
    ]
    same, other = found["pairs"]
    assert same["telling"]["low"] < 0.5 < same["telling"]["high"] + 0.05 and same["labels"]["distance"] == 0
    assert other["telling"]["auc"] > 0.99 and other["vocabulary"]["unseen_share"] == 1.0
    assert other["labels"]["distance"] == pytest.approx(0.4) and other["labels"]["p"] < 0.01


def test_duplicates_between_and_torn() -> None:
    texts = [f"this is sentence number {row} about topic {row * 3}" for row in range(50)]
    train = rows([*texts, texts[0], texts[1].upper()], ["a"] * 50 + ["a", "b"])
    found = sections({"train": train, "test": [record(900, texts[7], "a"), record(901, "something else", "b")]})[
        "duplicates"
    ]
    assert found["parts"]["train"]["exact"] == 1 and found["parts"]["train"]["normalised"] == 2
    assert found["between"] == {"test": 1} and found["conflict_clusters"] == 1
    assert {row["label"] for row in found["conflicts"][0]} == {"a", "b"}


def test_missing_fields() -> None:
    train = [
        record(0, "", "a", note="x"),
        record(1, "N/A", "a", note=""),
        record(2, "a proper text of some length", None),
        record(3, "bro\ufffdken text of some length", "unknown", note="-"),
    ]
    found = sections({"train": train})["missing"]
    kinds = {row["kind"]: row["train"] for row in found["kinds"]}
    assert kinds["empty text"] == kinds["placeholder instead of a text"] == kinds["no label"] == 1
    assert kinds["broken characters"] == kinds["placeholder instead of a label"] == 1
    assert found["columns"] == [{"column": "note", "empty": 3, "share": 0.75}]


def test_noise_of_other_tasks() -> None:
    dice = random.Random(2)
    numbers = [
        record(row, " ".join(["good"] * (row % 5) + ["bad"] * (5 - row % 5) + [f"w{dice.random()}"]), float(row % 5))
        for row in range(100)
    ]
    numbers[40] = record(40, "bad bad bad bad bad", 90.0)
    found = sections({"train": numbers}, "regression")["labels"]
    assert found["rows"][0]["id"] == "r40" and found["rows"][0]["counted"]

    tagged = [record(row, f"Ms Weber saw Paris on day {row}", (Span(13, 18, "PLACE"),)) for row in range(20)]
    tagged[4] = record(4, "Ms Weber saw Paris on day 4", (Span(13, 18, "PERSON"),))
    tagged[9] = record(9, "Ms Weber saw Paris on day 9", ())
    rows_ = sections({"train": tagged}, "tagging")["labels"]["rows"]
    assert {(row["id"], row["given"], row["suggested"]) for row in rows_} == {
        ("r4", "PERSON", "PLACE"),
        ("r9", "not tagged", "PLACE"),
    }

    many = [
        record(row, f"{'fire' if row % 2 else 'water'} damage in house {row}", ("fire",) if row % 2 else ("water",))
        for row in range(80)
    ]
    many[11] = record(11, "fire damage in house 11", ("water",))
    found = sections({"train": many}, "multilabel")["labels"]
    assert {row["id"] for row in found["rows"][:2]} == {"r11"}

    answers = [Record(f"r{row}", (Message("user", "why"),), (Completion((Message("assistant", "so"),)),)) for row in range(30)]  # fmt: skip  # noqa: E501
    assert "skipped" in sections({"train": answers}, "generation")["labels"]


def test_texts_with_several_labels_are_read_once_and_not_for_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(texts: Any) -> Any:
        read.append(len(texts))
        return tfidf(texts)

    monkeypatch.setattr("attune.data.features.tfidf", counted)
    kinds = ["fire", "water", "storm"]
    many = [record(row, f"{kinds[row % 3]} damage in house {row}", (kinds[row % 3],)) for row in range(90)]
    many[12] = record(12, "fire damage in house 12", ("water",))
    found = sections({"train": many}, "multilabel")["labels"]
    assert read == [90] and {row["id"] for row in found["rows"][:2]} == {"r12"}


def test_overview_tells_steps_questions_and_protection() -> None:
    facts = [
        {"step": "dates", "counts": {"edit": 3}, "ambiguous": 2, "questions": ["month or day first?"]},
        {"step": "pii", "counts": {"edit": 5}, "privacy": {"action": "mask", "kinds": {"email": 5}}},
    ]
    manifest = {"sources": [{"path": "a.csv", "rows": 2, "licence": None, "sha256": "ab"}], "excluded": {"near": 1}}
    result = audit(
        {"train": rows(["x y z"] * 4, ["a", "b"] * 2)}, "classification", ledger_facts=facts, manifest=manifest
    )
    found = result["sections"]["overview"]
    assert found["steps"][0]["facts"] == {"ambiguous": 2} and found["questions"][0]["step"] == "dates"
    assert found["protection"] == [{"step": "pii", "counts": {"edit": 5}, "facts": facts[1]["privacy"]}]
    assert found["excluded"] == {"near": 1}
    assert any("licence" in one["text"] for one in result["findings"])
    by_manifest = audit({"train": rows(["x y"], ["a"])}, "classification", manifest={"prepared": {"steps": facts}})
    assert by_manifest["sections"]["overview"]["questions"]


def test_samples_are_even_and_said() -> None:
    parts = {"train": [record(row, f"text {row}", "a" if row % 2 else "b") for row in range(1000)]}
    view = View(parts, "classification", AuditOptions(rows=100))
    assert [one.id for one in view.train] == [f"r{row}" for row in range(0, 1000, 10)]
    result = audit(parts, "classification", options=AuditOptions(rows=100))
    assert result["sampled"] == {"train": 100} and result["sections"]["balance"]["classes"][0]["train"] == 500


def test_texts_can_be_left_out() -> None:
    secret = "the secret sentence about Rosamund"
    train = rows([f"{secret} {row % 7}" for row in range(60)], ["a", "b", "a"] * 20)
    result = audit({"train": train, "test": train[:5]}, "classification", options=AuditOptions(texts=False))
    assert secret not in json.dumps(result) and "the secret sentence" not in json.dumps(result)


def test_excerpts_show_the_word() -> None:
    text = "word " * 100 + "needle " + "word " * 100
    assert "needle" in excerpt(text, 80, "needle") and len(excerpt(text, 80, "needle")) <= 83
    assert excerpt("short  text") == "short text"


def test_nothing_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="no row to audit"):
        audit({"train": []}, "classification")
