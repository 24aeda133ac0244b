"""Documents to records through a real endpoint process: grounding, duplicates, review, a kill in the middle."""

import json
import signal
import subprocess
import sys
import time

import pytest
from pydantic import ValidationError

from attune.curate.grounding import support
from attune.curate.labels import LabelOptions
from attune.curate.review import Review
from attune.curate.synthesize import SynthesisOptions, synthesize
from attune.curate.writers import json_items
from attune.data.sources import load_records
from attune.endpoint import Endpoint, EndpointOptions
from attune.errors import DataError, UsageError

TEXT = """# Claims handbook

The insurer pays medical bills within 30 days of a claim. A worker who misses more than seven days receives weekly
benefits from Greenway Recycling.

## Appeals

The judge hears every appeal within 90 days in Atlanta. A refused claim is granted again only by the board.

## Doubts

The doctor writes a doubtful report about the left elbow in March. It was never read by anybody at the office.
"""


@pytest.fixture
def handbook(tmp_path):
    path = tmp_path / "handbook.md"
    path.write_text(TEXT)
    return path


def chosen(**more):
    return SynthesisOptions(**{"chunk_chars": 300, "overlap_chars": 0, "least_chars": 60, "licence": "CC0-1.0", **more})


def make(server, sources, out, options, journal=None):
    endpoint = EndpointOptions(model="tiny", base_url=server.url, timeout_s=20)
    with Endpoint(endpoint, journal=journal) as writer:
        return synthesize(sources, out, writer, options)


def test_what_the_text_supports_is_accepted_and_what_is_invented_is_rejected(server, handbook, tmp_path):
    account = make(server, [handbook], tmp_path / "out", chosen())
    assert account["chunks"] == 3 and account["records"] == {"accepted": 6, "pending": 0, "rejected": 1}
    assert account["documents"] == {"handbook.md": 3}
    by_status = {}
    for one in Review(tmp_path / "out"):
        by_status.setdefault(one.status, []).append(one)
    assert all("painted" in one.record.text for one in by_status["rejected"])
    reasons = by_status["rejected"][0].reasons
    assert any("1512" in reason for reason in reasons) and any("not supported" in reason for reason in reasons)
    good = by_status["accepted"][2].record
    assert good.completions[0].text == "The judge hears every appeal within 90 days in Atlanta."
    assert good.meta["source"] == good.meta["group"] == "handbook.md"
    assert good.meta["licence"] == "CC0-1.0" and good.meta["heading"] == "Appeals" and good.meta["place"] == 2
    loaded = load_records(tmp_path / "out" / "records.jsonl")
    assert [record.id for record in loaded.records] == [one.record.id for one in by_status["accepted"]]


def test_the_same_again_is_the_same_bytes_and_pays_nothing(server, handbook, tmp_path):
    files = ("records.jsonl", "review.jsonl", "synthesis.json")
    for out in ("a", "b"):
        make(server, [handbook], tmp_path / out, chosen(judge=True), tmp_path / "journal")
    assert len(server.seen) == 3 + 6  # three chunks, and the judge on what the rules let through
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_judge_has_the_last_word(server, handbook, tmp_path):
    make(server, [handbook], tmp_path / "out", chosen(judge=True))
    said = [one for one in Review(tmp_path / "out") if "the judge says no" in one.reasons]
    assert said and all(one.status == "rejected" and one.record.meta["heading"] == "Doubts" for one in said)


JOB = """
import sys
from attune.curate.synthesize import SynthesisOptions, synthesize
from attune.endpoint import Endpoint, EndpointOptions
options = EndpointOptions(model="tiny", base_url=sys.argv[1], concurrency=4)
with Endpoint(options, journal=sys.argv[2] + "/journal") as writer:
    synthesize([sys.argv[3]], sys.argv[2], writer, SynthesisOptions(chunk_chars=200, overlap_chars=0, least_chars=60))
"""


def test_killed_in_the_middle_and_run_again_it_equals_a_clean_run_and_pays_once(server, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text(
        "\n\n".join(f"Rule {n} says that bill {n} is paid in {n} days by the {n}th office." for n in range(90))
    )
    command = [sys.executable, "-c", JOB, server.url]
    subprocess.run([*command, str(tmp_path / "clean"), str(book)], check=True)
    chunks = len(server.seen)
    assert chunks > 25
    server.plan(delay=0.05)
    process = subprocess.Popen([*command, str(tmp_path / "out"), str(book)])
    while len(server.seen) < 12:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = (tmp_path / "out" / "journal" / "answers.jsonl").read_bytes().count(b"\n")
    before = server.count()
    subprocess.run([*command, str(tmp_path / "out"), str(book)], check=True)
    assert kept >= 4 and len(server.seen) - before == chunks - kept
    for name in ("records.jsonl", "review.jsonl", "synthesis.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()


def test_repeated_text_is_asked_about_once_and_repeated_questions_are_one(server, handbook, tmp_path):
    copy = tmp_path / "copy.txt"
    copy.write_text(TEXT.split("\n\n")[1] + " And a last word about it.")
    account = make(server, [handbook, handbook, copy], tmp_path / "out", chosen())
    assert account["chunks"] == 4
    again = [one for one in Review(tmp_path / "out") if any("asks the same" in reason for reason in one.reasons)]
    assert len(again) == 2 and all(one.record.meta["source"] == "copy.txt" for one in again)


@pytest.mark.parametrize("task", ["instruction", "summary"])
def test_the_other_tasks_that_write(server, handbook, tmp_path, task):
    account = make(server, [handbook], tmp_path / "out", chosen(task=task))
    assert account["records"]["accepted"] >= 2
    record = load_records(tmp_path / "out" / "records.jsonl").records[0]
    assert record.completions[0].text.startswith("The insurer pays medical bills within 30 days")
    assert record.text.startswith("Summarise this text:" if task == "summary" else "State the rule on insurer pays")


def test_chunks_get_classes_and_what_is_unsure_waits(server, tmp_path):
    path = tmp_path / "notes.md"
    path.write_text(
        "# A\nThis note is about an appeal at the court, and about nothing else that anybody knows of.\n"
        "# B\nThis one is unsure, and nobody knows what it means, or whether it ever meant anything.\n"
    )
    labels = LabelOptions(classes=("bill", "appeal"), samples=4)
    account = make(server, [path], tmp_path / "out", chosen(task="classification", labels=labels))
    assert account["records"] == {"accepted": 1, "pending": 1, "rejected": 0}
    sure, unsure = Review(tmp_path / "out")
    assert (sure.record.label, sure.record.meta["heading"], sure.status) == ("appeal", "A", "accepted")
    assert unsure.status == "pending" and unsure.evidence["votes"] == {"appeal": 2, "bill": 2}


def test_a_person_decides_and_the_decision_holds_when_it_is_made_again(server, handbook, tmp_path):
    out = tmp_path / "out"
    assert make(server, [handbook], out, chosen(review_all=True))["records"] == {
        "accepted": 0,
        "pending": 6,
        "rejected": 1,
    }
    assert (out / "records.jsonl").read_bytes() == b""
    review = Review(out)
    first, second, third = [one.record for one in review.pending()][:3]
    review.decide(first.id, "accepted")
    better = {**second.to_dict(), "completions": [{"messages": [{"role": "assistant", "content": "Better."}]}]}
    review.decide(second.id, "accepted", record=type(second).from_dict(better), note="put right")
    review.decide(third.id, "rejected", note="nonsense")
    with pytest.raises(UsageError, match="nothing with the id"):
        review.decide("0" * 16, "accepted")
    assert review.export() == {"accepted": 2, "pending": 3, "rejected": 2}
    with open(out / "decisions.jsonl", "ab") as file:
        file.write(b'{"id": "torn')  # a kill while a decision was written
    account = make(server, [handbook], out, chosen(review_all=True))
    assert account["records"] == {"accepted": 2, "pending": 3, "rejected": 2}
    review = Review(out)
    review.decide(first.id, "pending")  # cuts the torn line away
    assert [record.completions[0].text for record in load_records(out / "records.jsonl").records][1] == "Better."
    assert Review(out).decisions[first.id]["status"] == "pending"
    assert [r for one in Review(out) if one.record.id == third.id for r in one.reasons][-1] == "reviewed: nonsense"


def test_an_answer_that_is_not_the_json_asked_for_is_counted(server, handbook, tmp_path):
    account = make(server, [handbook], tmp_path / "out", chosen(instruction="Say something. Keys are optional."))
    assert account["chunks_without_answer"] == {"the answer is not the JSON that was asked for": 3}
    assert account["records"] == {"accepted": 0, "pending": 0, "rejected": 0}


def test_documents_too_short_for_a_chunk_are_said(server, tmp_path):
    (tmp_path / "a.txt").write_text("Short.")
    with pytest.raises(DataError, match="no chunk"):
        make(server, [tmp_path / "a.txt"], tmp_path / "out", chosen())


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValidationError, match="belongs to task classification"):
        SynthesisOptions(task="classification")
    with pytest.raises(ValidationError, match="overlap_chars must be smaller"):
        SynthesisOptions(chunk_chars=200, overlap_chars=200)


def test_with_text_the_chunk_stands_before_the_question(server, handbook, tmp_path):
    make(server, [handbook], tmp_path / "out", chosen(with_text=True))
    records = load_records(tmp_path / "out" / "records.jsonl").records
    assert len(records) == 6  # two questions about one text are not taken for one
    assert records[0].text.startswith("The insurer pays") and records[0].text.endswith("?")


@pytest.mark.parametrize(
    "answer,question,full,numbers,names",
    [
        ("The insurer pays the bills in 30 days.", "", True, (), ()),
        ("The insurer pays the bills in 60 days.", "", True, ("60",), ()),
        ("Seven days are missed; 7 is the limit.", "Which limit on missed days?", True, (), ()),
        ("In Atlanta, the judge Wilson hears it.", "", False, (), ("Wilson",)),
        ("Wilson hears appeals.", "", False, (), ()),  # the first word has a capital in any case
        ("Elephants dance on purple moonbeams.", "", False, (), ()),
        ("Yes.", "Are bills paid?", False, (), ()),  # nothing that can be looked for
        ("The moon is painted.", "Who painted the moon?", False, (), ()),  # an echo proves nothing
        ("30", "How many days?", True, (), ()),
        ("After 45 days.", "What happens after 45 days?", True, ("45",), ()),
        ("1,000 dollars", "", True, (), ()),
        ("法官听取上诉", "", True, (), ()),
        ("大象在月亮上跳舞", "", False, (), ()),
    ],
)
def test_support(answer, question, full, numbers, names):
    text = (
        "The insurer pays medical bills within 30 days. More than seven days missed: weekly benefits, at most 1000 "
        "dollars. The judge hears appeals in Atlanta. 法官听取上诉。"
    )
    found = support(answer, text, question)
    assert (found.coverage == 1.0) is full and found.numbers == numbers and found.names == names


@pytest.mark.parametrize(
    "text,found",
    [
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('Sure! Here:\n```json\n[{"a": 1}]\n```', [{"a": 1}]),
        ('{"a": 1}', [{"a": 1}]),
        ("[see note] [1, 2]", []),
        ("no json", None),
        ('[{"a": 1', None),
        ("[" * 5000, None),
    ],
)
def test_json_in_a_models_answer(text, found):
    assert json_items(text) == found


def test_the_account_says_what_it_took(server, handbook, tmp_path):
    make(server, [handbook], tmp_path / "out", chosen())
    account = json.loads((tmp_path / "out" / "synthesis.json").read_text())
    assert account["endpoint"]["questions"] == 3 and account["endpoint"]["tokens_out"] > 0
