"""The step `pii` through the desk: what goes on, what the ledger says, and that no value stays anywhere."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune import plugins
from attune.data.desk import Desk
from attune.data.privacy.detectors import kinds
from attune.data.privacy.detectors.checksums import luhn, mod97
from attune.data.privacy.find import find
from attune.data.steps import Context
from attune.errors import MachineError, RecipeError
from attune.records import Completion, Message, Record, Span

PII = plugins.get("step", "pii")
TEXT = (
    "Karen Easton, SSN 000-12-3456, born on 3 March 1980, lives at 12 Main Street. Write to karen.easton@example.com "
    "or "
    "call (706) 555-0115; card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, from 10.0.0.12, "
    "api_key=3f9a8b7c6d5e4f3a2b1c"
)
VALUES = (
    "Karen",
    "Easton",
    "000-12",
    "1980",
    "Main Street",
    "example.com",
    "555-0115",
    "4111",
    "3704",
    "10.0.0",
    "3f9a",
)


def step(seed: int = 0, **options):
    return PII(PII.Config(**options), Context(seed=seed))


def record(text: str, id: str = "r1", **more) -> Record:
    return Record(id=id, prompt=(Message("user", text),), label="a", **more)


def masked(text: str, **options) -> str:
    change = step(**options).apply(record(text), 0)
    return change.record.text if change else text


def test_mask_leaves_no_value_in_parts_ledger_or_facts(tmp_path: Path) -> None:
    desk = Desk([step()], tmp_path / "out")
    desk.run({"train": [record(TEXT), record("nothing here", "r2")], "test": [record(TEXT, "t1")]})
    written = "".join((tmp_path / "out" / name).read_text() for name in ("train.jsonl", "test.jsonl", "ledger.jsonl"))
    written += json.dumps([desk.facts, desk.states()])
    assert [value for value in VALUES if value in written] == []
    assert "[NAME]" in written and "[EMAIL]" in written and "[SSN]" in written
    entries = [json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert {entry["reason"] for entry in entries} == set(kinds()) - {"national_id", "url_credentials"}
    assert all(entry["before_chars"] > 0 and "before" not in entry for entry in entries)
    facts = desk.facts[0]["privacy"]
    assert (facts["records"], facts["records_touched"]) == (3, 2)
    assert facts["kinds"]["email"] == 2 and facts["fields"]["prompt"]["email"] == 2


def test_every_part_of_a_record_is_covered() -> None:
    mail = "ann@example.com"
    call = {"function": {"name": "send", "arguments": json.dumps({"to": mail, "cc": [mail]})}}
    whole = Record(
        id="r",
        prompt=(Message("user", f"to {mail}", name=mail), Message("assistant", "", tool_calls=(call,))),
        completions=(Completion((Message("assistant", f"sent to {mail}"),)),),
        answer=mail,
        meta={"source": "a.csv", "owner": mail, "nested": {"list": [mail, 3]}},
    )
    change = step().apply(whole, 0)
    row = json.dumps(change.record.to_dict())
    assert "ann" not in row and row.count("[EMAIL]") == 8
    arguments = change.record.prompt[1].tool_calls[0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": "[EMAIL]", "cc": ["[EMAIL]"]}
    assert change.record.meta["source"] == "a.csv"
    fields = {entry["field"] for entry in change.entries}
    assert {"prompt.0", "prompt.0.name", "prompt.1.tool_calls", "completions.0.0", "answer", "meta.owner"} <= fields


def test_spans_move_with_the_text() -> None:
    text = "Karen Easton filed for the left knee."
    tagged = Record(id="r", prompt=(Message("user", text),), label=(Span(0, 12, "PERSON"), Span(27, 36, "BODY_PART")))
    after = step().apply(tagged, 0).record
    assert [after.text[span.start : span.end] for span in after.label] == ["[NAME]", "left knee"]


def test_detect_changes_nothing_and_counts() -> None:
    detect = step(action="detect")
    change = detect.apply(record(TEXT), 0)
    assert change.record == record(TEXT)
    assert {entry["action"] for entry in change.entries} == {"detect"}
    assert not any(value in json.dumps(change.entries) for value in VALUES)
    assert detect.facts()["privacy"]["kinds"]["card"] == 1


def test_drop_leaves_training_rows_out_and_held_out_rows_in(tmp_path: Path) -> None:
    desk = Desk([step(action="drop", kinds=["email"])], tmp_path / "out")
    rows = [record("mail a@example.com"), record("no mail", "r2")]
    parts = desk.run({"train": rows, "test": [record("mail b@example.com", "t")]})
    assert [r.id for r in parts["train"]] == ["r2"] and [r.id for r in parts["test"]] == ["t"]
    assert "example" not in (tmp_path / "out" / "ledger.jsonl").read_text()
    assert desk.states() == []


def test_pseudonyms_are_consistent_shaped_and_keyed(monkeypatch) -> None:
    one = masked("Karen Easton (karen.e@example.com) came. Easton left.", action="pseudonymise")
    two = masked("Write to KAREN.E@example.com, Ms. Easton.", action="pseudonymise")
    mails = [one[hit.start : hit.end] for hit in find(one) if hit.kind == "email"]
    assert len(mails) == 1 and mails[0] in two and "karen" not in one.lower()
    surname = one.split(" (")[0].split()[-1]
    assert f"{surname} left." in one and f"Ms. {surname}." in two
    assert masked("Karen Easton came.", action="pseudonymise", seed=1) != masked(
        "Karen Easton came.", action="pseudonymise"
    )
    monkeypatch.setenv("PII_KEY", "k1")
    keyed = masked("a@example.com", action="pseudonymise", secret_env="PII_KEY")
    monkeypatch.setenv("PII_KEY", "k2")
    assert (
        keyed
        != masked("a@example.com", action="pseudonymise", secret_env="PII_KEY")
        != masked("a@example.com", action="pseudonymise")
    )


def test_pseudonyms_keep_the_shape() -> None:
    out = masked(TEXT, action="pseudonymise")
    hits = {hit.kind: out[hit.start : hit.end] for hit in find(out)}
    assert luhn(hits["card"].replace(" ", "")) and len(hits["card"]) == 19 and "4111 1111" not in out
    assert mod97(hits["iban"].replace(" ", "")) and hits["iban"][:2] == "DE"
    assert hits["phone"].startswith("(") and hits["ip"].split(".")[0] in ("192", "198", "203")
    assert not any(value in out for value in ("Karen", "Easton", "12-3456", "555-0115", "4111 1111", "3f9a8b"))


def test_pseudonyms_are_the_same_in_every_process() -> None:
    code = (
        "from attune import plugins; from attune.data.steps import Context; from attune.records import *\n"
        "P = plugins.get('step', 'pii'); s = P(P.Config(action='pseudonymise'), Context(seed=3))\n"
        f"print(s.apply(Record(id='r', prompt=(Message('user', {TEXT!r}),)), 0).record.text)"
    )
    outs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outs) == 1 and outs.pop().strip() == masked(TEXT, action="pseudonymise", seed=3)


def test_options_name_what_is_wrong(monkeypatch) -> None:
    with pytest.raises(ValueError, match="unknown kind 'mail'"):
        PII.Config(kinds=["mail"])
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(RecipeError, match="NO_SUCH_KEY is not set"):
        step(action="pseudonymise", secret_env="NO_SUCH_KEY")


def test_names_off_and_kept_values() -> None:
    assert masked("Karen Easton, a@example.com", names="off") == "Karen Easton, [EMAIL]"
    assert (
        masked("Help: DESK@example.com or a@example.com", keep=["desk@example.com"])
        == "Help: DESK@example.com or [EMAIL]"
    )


PIECES = st.sampled_from(
    [
        "Karen Easton",
        "Dr. ",
        "Dear ",
        "born on ",
        "3 March 1980",
        "03/04/1980",
        "call ",
        "555-0115",
        "+1 (706) 555-0115",
        "a@example.com",
        " (at) ",
        "4111 1111 1111 1111",
        "DE89370400440532013000",
        "10.0.0.12",
        "2001:db8::1:2",
        "SSN ",
        "000-12-3456",
        "passport no. ",
        "C01X00T47",
        "12 Main Street",
        ", Springfield, IL 62704",
        "https://u:p12@x.example/",
        "?token=abcdef123",
        "password: ",
        "hunter2!",
        "api_key=",
        "3f9a8b7c6d5e4f3a2b1c",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN PRIVATE KEY-----",
        "[EMAIL]",
        "[NAME]",
        "[PHONE",
        "]",
        " ",
        " ",
        " ",
        ", ",
        ". ",
        "\n",
        "order ",
        "12345678",
        "👩‍👩‍👧",
        "שלום",
        "\u200d",
        "0",
        "7",
        "-",
        "@",
        ":",
        "é",
        "Regards,\n",
    ]
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(PIECES | st.text(max_size=4), max_size=14).map("".join))
def test_masking_twice_is_masking_once(text: str) -> None:
    once = masked(text)
    assert masked(once) == once
    assert find(once) == []


def presidio_folder(tmp_path: Path) -> str:
    """A spaCy model made here: its people are those of a list, so that no model has to be downloaded."""
    if importlib.util.find_spec("presidio_analyzer") is None:
        pytest.skip("presidio-analyzer is not installed (attune[pii])")
    import spacy

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "zorblax quimby"}, {"label": "PERSON", "pattern": "4711"}])
    nlp.to_disk(tmp_path / "names")
    return str(tmp_path / "names")


@pytest.mark.slow
def test_presidio_finds_names_that_the_light_detector_does_not(tmp_path: Path) -> None:
    folder = presidio_folder(tmp_path)
    text = "it was zorblax quimby who wrote to a@example.com on page 4711"
    assert masked(text) == "it was zorblax quimby who wrote to [EMAIL] on page 4711"
    assert masked(text, names="presidio", presidio_model=folder) == "it was [NAME] who wrote to [EMAIL] on page 4711"
    assert masked("Karen Easton came", names="presidio", presidio_model=folder) == "[NAME] came"


def test_a_missing_model_is_named_and_never_downloaded() -> None:
    if importlib.util.find_spec("presidio_analyzer") is None:
        with pytest.raises(MachineError, match="presidio-analyzer"):
            step(names="presidio")
    else:
        with pytest.raises(MachineError, match="no_such_model"):
            step(names="presidio", presidio_model="no_such_model")
