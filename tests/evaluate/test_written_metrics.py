"""Figures of written tasks against libraries where there are some, else against cases counted by hand."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import jsonschema
import nltk
import pytest
from rouge_score.rouge_scorer import RougeScorer

from attune import plugins
from attune.data.formats.squad import NO_ANSWER
from attune.data.templates.base import SCHEMA, tagged, wrapped
from attune.evaluate.metrics.edits import distance
from attune.evaluate.metrics.exact_match import normalised
from attune.evaluate.metrics.structure import fields
from attune.evaluate.predictions import Predictions
from attune.records import Completion, Message, Record


def record(answer: str, source: str = "", *others: str, **meta: Any) -> Record:
    meta |= {"references": [answer, *others]} if others else {}
    return Record("x", (Message("user", source),), (Completion((Message("assistant", answer),)),), meta=meta)


def figure(name: str, pairs: list[tuple[Record, str | None]]) -> float:
    metric: Any = plugins.get("metric", name)()
    return metric.value(metric.statistics([row for row, _ in pairs], Predictions("tuned", [said for _, said in pairs])))


# questions ------------------------------------------------------------------------------------------------------------


def test_token_f1_equals_rouge_1_on_normalised_words() -> None:
    """SQuAD's F1 is the F-measure of shared words: ROUGE-1, once both sides went through SQuAD's normalisation."""
    random.seed(0)
    words = ["the", "red", "Boat", "sailed,", "a", "river", "slowly", "in", "1912.", "an", "north"]
    scorer = RougeScorer(["rouge1"])
    for _ in range(200):
        one, other = (" ".join(random.choices(words, k=random.randint(1, 8))) for _ in range(2))
        if normalised(one) and normalised(other):
            expected = scorer.score(normalised(one), normalised(other))["rouge1"].fmeasure
            assert figure("token_f1", [(record(one), other)]) == pytest.approx(expected)


def test_token_f1_takes_the_best_reference_and_knows_when_there_is_no_answer() -> None:
    assert figure("token_f1", [(record("in 1912", "", "1912", "the year 1912"), "1912")]) == 1
    assert figure("token_f1", [(record("the red boat"), "a blue boat")]) == pytest.approx(2 * 1 / 4)
    rows = [(record(NO_ANSWER), said) for said in (NO_ANSWER, "the text does not say", None, "", "1912", "text say")]
    assert [figure("token_f1", [row]) for row in rows] == [1, 1, 1, 1, 0, 0]
    assert figure("token_f1", [(record("the text of 1912"), NO_ANSWER)]) == 0
    # rightly said 4, wrongly said 1, missed 2
    assert figure("no_answer_f1", [*rows, (record("1912"), NO_ANSWER)]) == pytest.approx(8 / (8 + 1 + 2))
    assert math.isnan(figure("no_answer_f1", [(record("1912"), "1912")]))


# extraction -----------------------------------------------------------------------------------------------------------

PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def extraction(value: Any, schema: Any = None) -> Record:
    return tagged(record(json.dumps(value), "text"), "extract", schema)


def test_answers_are_held_against_the_schema_as_jsonschema_does() -> None:
    random.seed(1)
    answers: list[Any] = [{"age": 1}, {"age": "1"}, {}, [], 3, {"age": 1.0}, {"age": 1.5}, {"age": True}]
    gold = extraction({"age": 1}, PERSON)
    assert json.loads(gold.meta[SCHEMA]) == PERSON
    for value in answers:
        expected = jsonschema.Draft202012Validator(PERSON).is_valid(value)
        assert figure("schema_valid", [(gold, json.dumps(value))]) == expected, value
    assert math.isnan(figure("schema_valid", [(extraction({"age": 1}), '{"age": 1}')]))
    texts = ['{"age": 1}', "```json\n{}\n```", "Sure! {}", "{'age': 1}", "", None, '{"age": 1} and more', "[" * 9999]
    assert [figure("json_valid", [(gold, text)]) for text in texts] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert figure("schema_valid", [(gold, text) for text in texts]) == 1 / 8


def test_fields_are_counted_by_path_and_value() -> None:
    value = {"a": 1, "b": {"c": "x ", "d": []}, "e": [{"f": True}, {"f": None}]}
    assert sorted(fields(value)) == [
        (".a", "1"),
        (".b.c", '"x"'),
        (".b.d", "[]"),
        (".e[].f", "null"),
        (".e[].f", "true"),
    ]
    gold = extraction({"name": "Ann", "age": 30, "tags": ["a", "b"]})
    said = json.dumps({"tags": ["b", "c"], "name": "Ann", "age": "30", "city": "Rome"})
    # right: name, tag b; wrongly said: tag c, age as text, city; missed: age as number, tag a
    assert figure("field_precision", [(gold, said)]) == pytest.approx(2 / 5)
    assert figure("field_recall", [(gold, said)]) == pytest.approx(2 / 4)
    assert figure("field_f1", [(gold, said)]) == pytest.approx(4 / 9)
    assert figure("field_f1", [(gold, said), (gold, "no JSON")]) == pytest.approx(4 / (4 + 3 + 2 + 4))
    assert figure("json_exact", [(gold, '{"tags":["a","b"],"age":30.0,"name":"Ann"}')]) == 1
    assert figure("json_exact", [(gold, '{"tags":["b","a"],"age":30,"name":"Ann"}')]) == 0
    assert figure("json_exact", [(extraction({"a": 1}), '{"a": true}')]) == 0


# rewriting ------------------------------------------------------------------------------------------------------------


def test_sari_equals_published_figures() -> None:
    """The example in the documentation of HF evaluate's sari; and copies, which it is made to see through."""
    source = "About 95 species are currently accepted ."
    references = ["About 95 species are currently known .", "About 95 species are now accepted .",
                  "95 species are now accepted ."]  # fmt: skip
    row = record(references[0], source, *references[1:])
    assert figure("sari", [(row, "About 95 you now get in .")]) == pytest.approx(26.953601953601954, abs=1e-12)
    assert figure("sari", [(record("a b c d e", "a b c x y"), "a b c d e")]) == pytest.approx(100)
    copied = figure("sari", [(row, source)])
    assert copied < figure("sari", [(row, references[1])])
    told = wrapped(tagged(row, "rewrite"), brief=False)
    assert figure("sari", [(told, source)]) == pytest.approx(copied)  # the instruction is no part of the text
    assert figure("copied", [(told, source), (told, references[0])]) == 0.5


def test_edit_distance_equals_nltk() -> None:
    random.seed(2)
    for _ in range(100):
        one, other = ([random.choice("abcd") for _ in range(random.randint(0, 9))] for _ in range(2))
        assert distance(one, other) == nltk.edit_distance(one, other)
    assert figure("edit_similarity", [(record("a b c d"), "a x c")]) == 0.5
    assert figure("edit_similarity", [(record("q", "", "a b"), "a b")]) == 1


# summaries ------------------------------------------------------------------------------------------------------------


def test_what_a_summary_takes_over() -> None:
    source = "The old bridge was closed in spring because the river rose."
    row = tagged(record("The bridge was shut.", source), "summarize")
    for told in (row, wrapped(row, brief=False)):
        said = "The old bridge was shut because the river rose."
        # pairs: "was shut", "shut because" are new, of 9 ("rose ." is there)
        assert figure("novel_bigrams", [(told, said)]) == pytest.approx(2 / 9)
        assert figure("coverage", [(told, said)]) == pytest.approx(9 / 10)  # all but "shut"
        assert figure("length_ratio", [(told, said)]) == pytest.approx(10 / 5)
        assert figure("novel_bigrams", [(told, source)]) == 0 and figure("coverage", [(told, source)]) == 1


# conversations --------------------------------------------------------------------------------------------------------


def test_loops_and_foreign_turns_are_seen() -> None:
    row = record("x")
    assert figure("distinct_1", [(row, "a b a b")]) == 0.5 and figure(
        "distinct_2", [(row, "a b a b")]
    ) == pytest.approx(2 / 3)
    assert math.isnan(figure("distinct_2", [(row, "a")]))
    texts = [
        "Fine.",
        "",
        None,
        "Yes.\n### User: and?",
        "Yes.\nUser: and?",
        "ok <|im_end|>",
        "[/INST] ok",
        "Dear user, hi",
    ]
    assert [figure("clean_format", [(row, text)]) for text in texts] == [1, 0, 0, 0, 0, 0, 0, 1]
