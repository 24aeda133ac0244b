"""Paraphrase and back-translation through a real endpoint process."""

import json
import signal
import subprocess
import sys
import time

import pytest

from attune.data.augment.back_translation import BackTranslation
from attune.data.augment.paraphrase import Paraphrase
from attune.data.desk import Desk, make_steps
from attune.data.steps import Context
from attune.endpoint import EndpointOptions
from attune.errors import DataError, MachineError
from attune.records import Message, Record, Span


def endpoint(server, **more):
    return EndpointOptions(**{"model": "tiny", "base_url": server.url, "timeout_s": 20, **more})


def rows(*texts, label="card"):
    return [Record(f"r{at}", (Message("user", text),), label=label) for at, text in enumerate(texts)]


def run(step, train, folder):
    desk = Desk([step], folder)
    parts = desk.run({"train": train, "test": rows("the test row about a card")})
    assert len(parts["test"]) == 1
    return [one for one in parts["train"] if "made_by" in one.meta], desk.facts[0]


def test_paraphrases_that_keep_the_facts_are_added_and_the_others_counted(server, tmp_path):
    train = rows(
        "Where is card 12?", "please lose the number 44", "turn around, it is late", "copy me", "One more card"
    )
    made, facts = run(Paraphrase(Paraphrase.Config(endpoint=endpoint(server), copies=2), Context()), train, tmp_path)
    assert [one.text for one in made if one.meta["from"] == "r0"] == [
        "Kindly note: Where is card 12? (thanks)",
        "Kindly note: Where is card 12? (cheers)",
    ]
    assert [one.id for one in made] == ["r0+paraphrase-1", "r0+paraphrase-2", "r4+paraphrase-1", "r4+paraphrase-2"]
    assert facts["left_out"] == {"negation": 2, "numbers": 2, "unchanged": 2}
    assert facts["endpoint"]["questions"] == 10 and {one.label for one in made} == {"card"}
    assert "the test row" not in json.dumps(server.seen)  # the test part is never sent anywhere


def test_entities_are_found_again_or_the_text_is_left_out(server, tmp_path):
    text = "Ask Leon about Atlanta"
    keeps = Record("a", (Message("user", text),), label=(Span(4, 8, "PER"), Span(15, 22, "LOC")))
    loses = Record("b", (Message("user", "note: ask the note"),), label=(Span(0, 4, "X"),))
    made, facts = run(
        Paraphrase(Paraphrase.Config(endpoint=endpoint(server)), Context(task="tagging")), [keeps, loses], tmp_path
    )
    assert len(made) == 1 and facts["left_out"] == {"an entity is lost": 1}
    assert [(made[0].text[s.start : s.end], s.label) for s in made[0].label] == [("Leon", "PER"), ("Atlanta", "LOC")]


def test_labels_are_asked_for_again(server, tmp_path):
    train = [*rows("my card is lost"), Record("x", (Message("user", "this is about a refund"),), label="card")]
    train.append(Record("y", (Message("user", "another refund"),), label="refund"))
    options = Paraphrase.Config(endpoint=endpoint(server), check_labels=True)
    made, facts = run(Paraphrase(options, Context()), train, tmp_path)
    assert [one.meta["from"] for one in made] == ["r0", "y"] and facts["left_out"] == {"label not confirmed": 1}


def test_there_and_back_again(server, tmp_path):
    train = rows("where is my lost card", "please transfer my money 7 times")
    options = BackTranslation.Config(endpoint=endpoint(server), via=("de", "fr"))
    made, facts = run(BackTranslation(options, Context(journal=tmp_path / "j")), train, tmp_path / "out")
    assert [one.text for one in made] == ["where is my lost card now", "please transfer my money 7 times now"]
    assert facts["left_out"] == {"repeated": 2}
    assert {one["text"][:2] for one in server.seen if "English" in one["body"]["messages"][0]["content"]} == {
        "DE",
        "FR",
    }
    assert (tmp_path / "j" / "back_translation" / "answers.jsonl").exists()


JOB = """
import sys
from pathlib import Path
from attune.data.augment.paraphrase import Paraphrase
from attune.data.desk import Desk
from attune.data.steps import Context
from attune.records import Message, Record
options = Paraphrase.Config(endpoint={"model": "tiny", "base_url": sys.argv[1], "concurrency": 4}, copies=2)
train = [Record(f"r{n}", (Message("user", f"where is my card {n}"),), label="card") for n in range(30)]
Desk([Paraphrase(options, Context(journal=Path(sys.argv[2])))], Path(sys.argv[3])).run({"train": train})
"""


def test_killed_and_run_again_pays_once_and_equals_a_clean_run(server, tmp_path):
    command = [sys.executable, "-c", JOB, server.url]
    subprocess.run([*command, str(tmp_path / "journal0"), str(tmp_path / "clean")], check=True)
    server.plan(delay=0.05)
    process = subprocess.Popen([*command, str(tmp_path / "journal"), str(tmp_path / "out")])
    while len(server.seen) < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = (tmp_path / "journal" / "paraphrase" / "answers.jsonl").read_bytes().count(b"\n")
    before = server.count()
    subprocess.run([*command, str(tmp_path / "journal"), str(tmp_path / "out")], check=True)
    assert kept >= 10 and len(server.seen) - before == 60 - kept
    for name in ("train.jsonl", "ledger.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()


def test_a_server_that_fails_ends_the_preparation_with_what_to_do(server, tmp_path):
    server.plan(*[{"status": 401}] * 40)
    with pytest.raises(MachineError, match="refuses: status 401"):
        run(Paraphrase(Paraphrase.Config(endpoint=endpoint(server)), Context()), rows("where is my card"), tmp_path)


def test_the_steps_are_found_by_name_with_options_of_a_recipe(server):
    class Choice:
        name = "paraphrase"
        options = Paraphrase.Config.model_validate({"endpoint": {"model": "m", "base_url": server.url}, "share": 0.5})

    step = make_steps([Choice], Context(task="classification"))[0]
    assert isinstance(step, Paraphrase) and step.options.endpoint.model == "m"
    with pytest.raises(DataError, match="is for"):
        make_steps([Choice], Context(task="text"))
    with pytest.raises(ValueError, match="unknown language xx"):
        BackTranslation.Config(endpoint={"model": "m"}, via=("xx",))
