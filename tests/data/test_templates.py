"""Written tasks: which one the data is for, what the model is told, and rows that are no examples of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attune import flow, flow_data, plugins
from attune.data.prepare import read
from attune.data.templates.base import NAME, SCHEMA, choose, source_text, tagged, wrapped
from attune.data.templating import common_words, template_of
from attune.errors import DataError, RecipeError
from attune.recipe import Recipe
from attune.records import Completion, Message, Record

SCHEMA_OF_PEOPLE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def file_of(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def found(path: Path, rows: list[dict[str, Any]], **data: Any) -> Any:
    recipe = Recipe.load({"data": {"path": file_of(path / "rows.jsonl", rows), "split": {"validation": 0}, **data}})
    return read(recipe, prepared=path)


def record_of(text: str, answer: str = "x", **meta: Any) -> Record:
    return Record("x", (Message("user", text),), (Completion((Message("assistant", answer),)),), meta=meta)


ROWS: dict[str, dict[str, Any]] = {
    "summarize": {"document": "A long {n} text about ships.", "summary": "Ships {n}."},
    "translate": {"translation": {"de": "Guten Tag {n}", "en": "Good day {n}"}},
    "answer": {"context": "It is {n}.", "question": "What is it?", "answers": {"text": ["{n}"], "answer_start": [6]}},
    "extract": {"text": "Ann is {n}.", "json": {"name": "Ann", "age": "{n}"}},
    "rewrite": {"complex": "The vessel {n} traversed the ocean.", "simple": "Ship {n} crossed the sea."},
    "chat": {"messages": [{"role": "user", "content": "Hi {n}"}, {"role": "assistant", "content": "Hello {n}"}]},
    "none": {"input": "one {n}", "output": "two {n}"},
}


def numbered(row: dict[str, Any], n: int) -> dict[str, Any]:
    return json.loads(json.dumps(row).replace("{n}", f"number {n * 7919}"))


@pytest.mark.parametrize("name", ROWS)
def test_the_columns_say_which_task_it_is(name: str, tmp_path: Path) -> None:
    made = found(tmp_path, [numbered(ROWS[name], n) for n in range(12)])
    assert made.task == "generation" and template_of(made.split.train) == name
    said = [line for line in made.notices if line.startswith("template ")]
    assert len(said) == (name != "none") and all(f"template {name}" in line for line in said)


def test_every_template_names_metrics_that_exist() -> None:
    known = plugins.find("metric")
    for name, plugin in plugins.find("template").items():
        assert plugin.primary in plugin.metrics, name  # type: ignore[attr-defined]
        assert set(plugin.metrics) <= set(known), name  # type: ignore[attr-defined]
        assert all("generation" in known[metric].tasks for metric in plugin.metrics)  # type: ignore[attr-defined]
        for columns in plugin.columns:  # type: ignore[attr-defined]
            assert choose("pairs", columns) == name


def test_language_columns_and_codes_become_names() -> None:
    named = tagged(record_of("Hallo", source_lang="de", target_lang="en_GB"), "translate")
    assert wrapped(named, brief=False).text == "Translate the text from German to English.\n\nHallo"
    assert wrapped(named, brief=True).text == "translate from German to English: Hallo"
    other = tagged(record_of("Hallo", to="Klingon"), "translate")
    assert wrapped(other, brief=False).text == "Translate the text to Klingon.\n\nHallo"


def test_the_direction_of_a_translation_can_be_turned(tmp_path: Path) -> None:
    rows = [{"de": f"Guten Tag {n * 7919}", "en": f"Good day {n * 7919}"} for n in range(12)]
    forth = found(tmp_path, rows).split.train[0]
    back = found(tmp_path, rows, format="translation", columns={"source": "en", "target": "de"}).split.train[0]
    assert forth.text.startswith("Guten") and forth.completions[0].text.startswith("Good")
    assert back.text.startswith("Good") and back.completions[0].text.startswith("Guten")
    assert (back.meta["source_lang"], back.meta["target_lang"]) == ("en", "de")


def test_a_text_is_wrapped_once_and_found_again() -> None:
    record = tagged(record_of("Some text."), "summarize")
    once = wrapped(record, brief=False)
    assert once.text == "Summarise the text.\n\nSome text." and source_text(once) == "Some text."
    assert wrapped(once, brief=False) == once
    own = wrapped(tagged(record_of("Some text."), "summarize", instruction="In one word:"), brief=False)
    assert own.text == "In one word:\n\nSome text." and source_text(own) == "Some text."
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    talk = tagged(Record("x", turns), "summarize")
    assert wrapped(talk, brief=False) == talk
    assert wrapped(record_of("a"), brief=False) == record_of("a")
    chat = tagged(record_of("Hi"), "chat", instruction="never used")
    assert wrapped(chat, brief=False).text == "Hi"


def test_questions_without_an_answer_are_kept(tmp_path: Path) -> None:
    rows = [
        {"context": f"It is {n * 7919}.", "question": "Who?", "answers": {"text": [], "answer_start": []}}
        for n in range(6)
    ]
    rows += [{"context": f"She is {n * 6007}.", "question": "Who is she?", "answer": f"{n * 6007}"} for n in range(6)]
    made = found(tmp_path, rows)
    answers = {record.completions[0].text for record in [*made.split.train, *made.split.test]}
    assert "The text does not say." in answers and len(answers) == 7 and template_of(made.split.train) == "answer"


# structured extraction ------------------------------------------------------------------------------------------------


def people(n: int = 12, **bad: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"text": f"Ann{n * 7919} is {n}.", "json": {"name": f"Ann{n * 7919}", "age": n}} for n in range(n)
    ]
    for number, value in bad.items():
        rows[int(number.removeprefix("row"))]["json"] = value
    return rows


def schema_file(tmp_path: Path, schema: Any = SCHEMA_OF_PEOPLE) -> str:
    path = tmp_path / "people.schema.json"
    path.write_text(json.dumps(schema))
    return str(path)


def test_the_instruction_carries_the_schema(tmp_path: Path) -> None:
    made = found(tmp_path, people(), json_schema=schema_file(tmp_path))
    record = wrapped(made.split.train[0], brief=False)
    assert json.loads(record.meta[SCHEMA]) == SCHEMA_OF_PEOPLE and record.meta[SCHEMA] in record.text
    assert json.loads(record.completions[0].text)["name"] == source_text(record).split()[0]
    plain = wrapped(found(tmp_path, people()).split.train[0], brief=False)
    assert SCHEMA not in plain.meta and plain.text.startswith("Write what the text says as one JSON value.")


def test_rows_bring_schemas_of_their_own(tmp_path: Path) -> None:
    rows = [{**row, "schema": SCHEMA_OF_PEOPLE} for row in people()]
    record = found(tmp_path, rows).split.train[0]
    assert json.loads(record.meta[SCHEMA]) == SCHEMA_OF_PEOPLE and "schema" not in record.meta
    rows[3]["json"] = {"age": 4}
    with pytest.raises(DataError, match=r"rows.jsonl:4: .*'name' is a required property"):
        found(tmp_path, rows)


def test_rows_that_break_the_schema_are_named_before_training(tmp_path: Path) -> None:
    rows = people(row2={"name": "Bob", "age": -1}, row5={"name": 7}, row7={"name": "Eve", "job": "spy"})
    asked = {"json_schema": schema_file(tmp_path)}
    with pytest.raises(DataError) as caught:
        found(tmp_path, rows, **asked)
    told = str(caught.value)
    assert "3 rows do not fit template extract" in told and caught.value.exit_code == 3
    for line, reason in ((3, "$.age: -1 is less than the minimum"), (6, "$.name: 7 is not of type"), (8, "'job'")):
        assert f"rows.jsonl:{line}: " in told and reason in told
    made = found(tmp_path, rows, on_bad_row="skip", **asked)
    assert len(made.split.train) + len(made.split.test) == 9 and any("3 rows left out" in line for line in made.notices)


def test_a_schema_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    data = {"path": file_of(tmp_path / "rows.jsonl", people())}
    for schema, said in (({"type": "nonsense"}, "not a JSON Schema"), ([1], "not an object")):
        recipe = Recipe.load({"data": {**data, "json_schema": schema_file(tmp_path, schema)}})
        with pytest.raises(RecipeError, match="is no JSON Schema") as caught:
            flow.train(recipe, out=tmp_path / "runs")
        assert said in str(caught.value)
    recipe = Recipe.load({"data": {**data, "json_schema": str(tmp_path / "missing.json")}})
    with pytest.raises(RecipeError, match="missing.json"):
        flow_data.rehearse(recipe)
    recipe = Recipe.load({"data": {**data, "json_schema": schema_file(tmp_path), "template": "chat"}})
    with pytest.raises(RecipeError, match="no meaning for template chat"):
        flow_data.rehearse(recipe)


def test_a_schema_reaches_for_nothing_outside(tmp_path: Path) -> None:
    """A $ref to another place is an error, never a download or a file that is read."""
    inside = {"$defs": {"text": {"type": "string"}}, "properties": {"name": {"$ref": "#/$defs/text"}}}
    assert found(tmp_path, people(), json_schema=schema_file(tmp_path, inside)).split.train
    schema = {"type": "object", "properties": {"name": {"$ref": "http://127.0.0.1:9/person.json"}}}
    with pytest.raises(RecipeError, match="no JSON Schema") as caught:
        found(tmp_path, people(), json_schema=schema_file(tmp_path, schema))
    assert "refers to http://127.0.0.1:9/person.json" in str(caught.value)


def test_an_unknown_template_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'summarize'"):
        Recipe.load({"data": {"path": "x.csv", "template": "sumarize"}})


def test_tags_survive_the_data_desk(tmp_path: Path) -> None:
    """Prepared data says what it is for, so that it can be trained on by itself."""
    rows = [numbered(ROWS["summarize"], n) for n in range(12)]
    recipe = {"data": {"path": file_of(tmp_path / "rows.jsonl", rows), "prepare": ["whitespace"]}}
    made = flow_data.prepare(recipe, out=tmp_path / "prepared")
    again = Recipe.load({"data": {"path": str(made.folder / "train.jsonl"), "split": {"validation": 0}}})
    assert {record.meta[NAME] for record in read(again, prepared=tmp_path).split.train} == {"summarize"}


def test_words_that_all_rows_share_are_kept_for_later_requests() -> None:
    rows = [tagged(record_of(f"Hallo {n}", source_lang="de", target_lang="en"), "translate") for n in range(3)]
    for brief in (False, True):
        words = common_words(rows, brief=brief)
        later = tagged(record_of("Hallo 0"), "translate", instruction=words)  # a request names no languages
        assert words and wrapped(later, brief=brief).text == wrapped(rows[0], brief=brief).text
    other = tagged(record_of("Hallo", source_lang="de", target_lang="fr"), "translate")
    assert common_words([*rows, other], brief=False) is None
    assert common_words([tagged(record_of("a"), "summarize")], brief=False) is None


def test_a_template_that_is_named_holds_for_prepared_data_too(tmp_path: Path) -> None:
    """Prepared records say which template they were taken for: that is a default, no order."""
    rows = [numbered(ROWS["none"], n) for n in range(12)]
    path = file_of(tmp_path / "rows.jsonl", rows)
    made = flow_data.prepare({"data": {"path": path, "split": {"validation": 0}}}, out=tmp_path / "prepared")
    train = str(made.folder / "train.jsonl")

    def taken(**data: Any) -> Record:
        recipe = Recipe.load({"data": {"path": train, "split": {"validation": 0}, **data}})
        return read(recipe, prepared=tmp_path / "again").split.train[0]

    assert taken().meta[NAME] == "none"
    named = wrapped(taken(template="summarize", instruction="Sum it up."), brief=False)
    assert named.meta[NAME] == "summarize" and named.text.startswith("Sum it up.\n\none number")
