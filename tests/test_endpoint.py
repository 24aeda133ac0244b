"""The client against a real server in another process: limits, retries, and nothing paid twice."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import ValidationError

from attune import endpoint as endpoint_module
from attune.endpoint import Ask, Endpoint, EndpointOptions
from attune.errors import DataError, MachineError, UsageError
from attune.journal import Journal, key_of

SECRET = "sk-secret-0123456789"


@pytest.fixture
def server(running, monkeypatch):
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_S", 0.02)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    running.plan()
    return running


def options(server, **more):
    return EndpointOptions(**{"model": "tiny", "base_url": server.url, "timeout_s": 5, **more})


def asks(count, start=0):
    return [Ask(({"role": "user", "content": f"text {number}"},)) for number in range(start, start + count)]


def test_answers_come_in_the_order_of_the_questions_and_equal_ones_are_asked_once(server):
    with Endpoint(options(server)) as endpoint:
        found = endpoint.ask([*asks(20), *asks(5)])
    assert [answer.text for answer in found] == [f"You said: text {n}" for n in [*range(20), *range(5)]]
    assert len(server.seen) == 20
    assert found[0].finish == "stop" and found[0].tokens_in == 2 and found[0].tokens_out == 4


def test_no_more_questions_are_under_way_than_allowed(server):
    server.plan(delay=0.05)
    with Endpoint(options(server, concurrency=3)) as endpoint:
        endpoint.ask(asks(12))
    assert server.told()["most_running"] == 3


def test_what_the_options_say_is_sent_and_null_leaves_a_field_out(server):
    sent = {"temperature": None, "max_tokens": None, "extra": {"max_completion_tokens": 50, "top_p": 0.9}}
    with Endpoint(options(server, **sent)) as endpoint:
        endpoint.ask([Ask(({"role": "user", "content": "x"},), seed=3, temperature=0.0)])
    assert server.seen[0]["body"] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "x"}],
        "seed": 3,
        "max_completion_tokens": 50,
        "top_p": 0.9,
    }


@pytest.mark.parametrize("trouble", [500, 502, 503, 408, 429, "garbage", "empty", "close", "cut"])
def test_passing_trouble_is_tried_again(server, trouble):
    server.plan(trouble, trouble)
    with Endpoint(options(server)) as endpoint:
        assert endpoint.ask(asks(1))[0].text == "You said: text 0"
    assert [one["got"] for one in server.seen] == [trouble, trouble, "ok"]
    assert len({one["name"] for one in server.seen}) == 1  # a server that knows idempotency keys charges once
    assert endpoint.counts == {"sent": 3, "again": 2}


@pytest.mark.parametrize("trouble", ["slow", "drip"])
def test_a_server_that_does_not_finish_is_given_up_after_the_time(server, trouble):
    server.plan(trouble)
    begun = time.monotonic()
    with Endpoint(options(server, timeout_s=0.5)) as endpoint:
        assert endpoint.ask(asks(1))[0].text == "You said: text 0"
    assert 0.5 <= time.monotonic() - begun < 2.5


def test_the_job_ends_with_the_reason_when_all_retries_are_used_up(server, tmp_path):
    server.plan(*[503] * 20)
    with Endpoint(options(server, retries=2, concurrency=1), journal=tmp_path) as endpoint:
        with pytest.raises(MachineError, match="no usable answer in 3 attempts") as caught:
            endpoint.ask(asks(5))
    assert "status 503" in str(caught.value) and len(server.seen) == 3


def test_no_server_at_all_is_said(tmp_path):
    nowhere = EndpointOptions(model="tiny", base_url="http://127.0.0.1:9/v1", retries=0)
    with Endpoint(nowhere) as endpoint, pytest.raises(MachineError, match="no connection"):
        endpoint.ask(asks(1))


@pytest.mark.parametrize("header", [{"Retry-After": "1"}, {"retry-after-ms": "1000"}, {"Retry-After": "date"}], ids=str)
def test_a_wait_that_the_server_asks_for_is_kept_by_all(server, header):
    if header.get("Retry-After") == "date":
        header = {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)}
    server.plan({"status": 429, "headers": header}, delay=0.05)
    with Endpoint(options(server, concurrency=2)) as endpoint:
        endpoint.ask(asks(14))
    times = [one["at"] for one in server.seen]
    gaps = [right - left for left, right in zip(times, times[1:])]
    assert len(times) == 15 and max(gaps) >= 0.9  # nothing was sent in between
    assert len(times) - gaps.index(max(gaps)) - 1 >= 8


def test_a_wait_that_is_too_long_ends_the_job(server):
    server.plan({"status": 429, "headers": {"Retry-After": "86400"}})
    with Endpoint(options(server)) as endpoint, pytest.raises(MachineError, match="asks to wait 86,400 s"):
        endpoint.ask(asks(1))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "status,words",
    [
        ({"status": 401}, "OPENAI_API_KEY"),
        ({"status": 403}, "OPENAI_API_KEY"),
        ({"status": 404}, "model's name 'tiny'"),
        ({"status": 400, "said": "Unsupported parameter: 'max_tokens'"}, "Unsupported parameter"),
        ({"status": 429, "code": "insufficient_quota", "said": "You exceeded your quota"}, "no money left"),
        ({"status": 307, "headers": {"Location": "http://127.0.0.1:9/"}}, "not sent on to another server"),
    ],
    ids=str,
)
def test_what_concerns_every_question_ends_the_job_at_once(server, status, words):
    server.plan(*[status] * 9)
    with Endpoint(options(server, concurrency=1)) as endpoint, pytest.raises(MachineError, match="refuses") as caught:
        endpoint.ask(asks(9))
    assert words in str(caught.value) and caught.value.fix
    assert len(server.seen) == 1


def test_a_question_that_is_too_long_is_refused_alone_and_not_asked_again(server, tmp_path):
    server.plan({"status": 400, "said": "This model's maximum context length is 8192 tokens."})
    for _ in range(2):
        with Endpoint(options(server, concurrency=1), journal=tmp_path) as endpoint:
            found = endpoint.ask(asks(3))
        assert found[0].text is None and "maximum context length" in found[0].finish
        assert [answer.text for answer in found[1:]] == ["You said: text 1", "You said: text 2"]
    assert len(server.seen) == 3


def test_an_answer_that_was_cut_off_is_not_taken_for_whole(server):
    with Endpoint(options(server, max_tokens=2)) as endpoint:
        answer = endpoint.ask(asks(1))[0]
    assert answer.finish == "length" and answer.text == "You said: text 0" and answer.whole is None


# the journal ----------------------------------------------------------------------------------------------------------


def test_a_second_job_with_the_journal_pays_nothing_and_says_the_same(server, tmp_path):
    with Endpoint(options(server), journal=tmp_path) as endpoint:
        first, facts = endpoint.ask(asks(10)), endpoint.facts()
    with Endpoint(options(server), journal=tmp_path) as endpoint:
        assert endpoint.ask(asks(10)) == first
        assert endpoint.facts() == facts  # what the job took, not what this attempt took
        assert endpoint.counts["sent"] == 0 and endpoint.counts["kept"] == 10
    assert len(server.seen) == 10
    with Endpoint(options(server, temperature=0.1), journal=tmp_path) as endpoint:
        endpoint.ask(asks(1))
    assert len(server.seen) == 11  # another question


JOB = """
import sys
from attune.endpoint import Ask, Endpoint, EndpointOptions
options = EndpointOptions(model="tiny", base_url=sys.argv[1], concurrency=4)
with Endpoint(options, journal=sys.argv[2]) as endpoint:
    endpoint.ask([Ask(({"role": "user", "content": f"text {n}"},)) for n in range(60)])
print("done")
"""


@pytest.mark.parametrize("after", [1, 9, 23, 41])
def test_killed_in_the_middle_and_run_again_nothing_that_was_kept_is_paid_twice(server, tmp_path, after):
    server.plan(delay=0.03)
    command = [sys.executable, "-c", JOB, server.url, str(tmp_path)]
    process = subprocess.Popen(command)
    while len(server.seen) <= after:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = (tmp_path / "answers.jsonl").read_bytes().count(b"\n")
    before = server.count()
    assert 0 < before < 60
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "done\n"
    seen = server.seen
    assert len({one["text"] for one in seen}) == 60
    assert len(seen) - before == 60 - kept
    assert len(seen) <= 60 + 4  # at most what was under way


def test_a_torn_last_line_is_cut_away_and_asked_again(server, tmp_path):
    with Endpoint(options(server), journal=tmp_path) as endpoint:
        first = endpoint.ask(asks(5))
    path = tmp_path / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with Endpoint(options(server), journal=tmp_path) as endpoint:
        assert endpoint.ask(asks(5)) == first
    assert len(server.seen) == 6 and len(path.read_bytes().splitlines()) == 5


def test_a_damaged_line_inside_is_said_with_its_place(tmp_path):
    (tmp_path / "answers.jsonl").write_text('{"key": "00", "answer": {}}\nnonsense\n{"key": "01", "answer": {}}\n')
    with pytest.raises(DataError, match=r"answers\.jsonl:2") as caught:
        Journal(tmp_path)
    assert "delete the line" in caught.value.fix


def test_two_jobs_do_not_share_a_journal_at_one_time(tmp_path):
    with Journal(tmp_path):
        with pytest.raises(MachineError, match="in use by another process"):
            Journal(tmp_path)
    with Journal(tmp_path) as journal:
        journal.put(key_of("a"), {"text": "half \ud83d a character"})
        assert journal.get(key_of("a")) == {"text": "half \ud83d a character"}
    assert oct((tmp_path / "answers.jsonl").stat().st_mode & 0o777) == "0o600"


def test_a_disk_that_takes_no_more_is_said_and_what_was_kept_stays(server, tmp_path):
    limited = JOB.replace("with Endpoint", "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\nwith Endpoint")
    limited = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + limited
    arguments = [server.url, str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and "takes no more" in done.stderr
    lines = (tmp_path / "answers.jsonl").read_bytes().splitlines()
    assert 5 < len(lines) < 60 and all(json.loads(line)["answer"]["text"] for line in lines)
    server.plan()
    subprocess.run([sys.executable, "-c", JOB, *arguments], check=True, capture_output=True)
    assert len(server.seen) == 60 - len(lines)


# limits and the key ---------------------------------------------------------------------------------------------------


def test_max_requests_is_checked_before_anything_is_paid(server, tmp_path):
    with Endpoint(options(server, max_requests=4), journal=tmp_path) as endpoint:
        endpoint.ask(asks(3))
        with pytest.raises(MachineError, match="5 questions are needed, max_requests allows 4"):
            endpoint.ask(asks(3, start=2))
        endpoint.ask(asks(2, start=2))
    assert len(server.seen) == 4


def test_max_cost_is_never_passed_not_even_by_attempts_together(server, tmp_path):
    priced = {"price_in": 1.0, "price_out": 1000.0, "max_tokens": 10, "max_cost": 0.06, "concurrency": 4}
    for _ in range(3):  # each answer costs 0.004
        with Endpoint(options(server, **priced), journal=tmp_path) as endpoint:
            with pytest.raises(MachineError, match="max_cost 0.06"):
                endpoint.ask(asks(60))
            spent = endpoint.facts()["cost"]
        assert 0.04 < spent <= 0.06
    assert len(server.seen) * 0.004 <= 0.06


def test_a_cost_limit_without_prices_or_without_a_longest_answer_is_refused():
    with pytest.raises(ValidationError, match="needs price_in and price_out"):
        EndpointOptions(model="m", max_cost=1)
    with pytest.raises(ValidationError, match="max_cost needs max_tokens"):
        EndpointOptions(model="m", max_cost=1, price_in=1, price_out=1, max_tokens=None)
    with pytest.raises(ValidationError, match="extra cannot set model"):
        EndpointOptions(model="m", extra={"model": "x"})


def test_the_key_is_sent_and_never_written_or_told(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server.plan(key=SECRET)
    with Endpoint(options(server), journal=tmp_path) as endpoint:
        answer = endpoint.ask([Ask(({"role": "user", "content": f"my key is {SECRET}"},))])[0]
    assert server.seen[0]["key"] == f"Bearer {SECRET}"
    assert SECRET not in (tmp_path / "answers.jsonl").read_text() and answer.text == "You said: my key is ***"
    server.plan(key="another")  # this server repeats the wrong key in its message
    with Endpoint(options(server)) as endpoint, pytest.raises(MachineError) as caught:
        endpoint.ask(asks(1))
    assert "Incorrect API key provided: ***" in str(caught.value) and SECRET not in str(caught.value)


def test_nothing_leaves_the_machine_unless_an_address_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="no endpoint is named"):
        Endpoint(EndpointOptions(model="m"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1/")
    assert Endpoint(EndpointOptions(model="m")).base_url == "http://localhost:1/v1"


@pytest.mark.parametrize(
    "address",
    ["localhost:8000", "file:///etc/passwd", "http://", "http://a b/v1", "http://me:pw@host/v1", "http://h/?k=1"],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(address):
    with pytest.raises(UsageError):
        Endpoint(EndpointOptions(model="m", base_url=address))


def test_ctrl_c_keeps_what_was_under_way(server, tmp_path):
    server.plan(delay=0.2)
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, server.url, str(tmp_path)],
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
        # a job that a shell starts in the background ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(server.seen) < 10:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0
    assert (tmp_path / "answers.jsonl").read_bytes().count(b"\n") == len(server.seen)
