"""`attune data label` as a user meets it: lines on stdin, a real terminal, and a kill in the middle."""

import csv
import json
import os
import pty
import random
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attune.data.sources import load_records

KINDS = {"refund": "money back please", "login": "cannot sign in", "delivery": "parcel is late"}
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """tickets.csv: 60 texts of three kinds, in the column `note`."""
    rng = random.Random(0)
    words = "today yesterday again urgently since Monday after lunch".split()
    with open(tmp_path / "tickets.csv", "w", newline="") as file:
        rows = [[f"{KINDS[kind]} {' '.join(rng.sample(words, 2))} {n}"] for n, kind in enumerate(list(KINDS) * 20)]
        csv.writer(file).writerows([["note"], *rows])
    return tmp_path


def label(folder: Path, *words: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attune.cli", "data", "label", "tickets.csv", *words]
    done = subprocess.run(command, cwd=folder, env=ENV, input=lines, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
    return done


def answers(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    return [row for row in rows if "id" in row]


def test_lines_on_stdin_to_training_data(folder: Path) -> None:
    lines = "1\n2\nref\nnope\n9\nu\ns\n3\n1\n2\n3\n\n+ spam\n4\n?\np\na\nq\n1\n"
    done = label(folder, "--labels", "refund,login,delivery", "--annotator", "ann", lines=lines)
    assert done.returncode == 0
    said = done.stdout
    assert "60 texts from column 'note'" in said and "1 refund   2 login   3 delivery" in said
    assert "'nope' is no label" in said and "'9' is no label" in said and "Taken back." in said
    assert "Enter = " in said and "4 spam" in said and "too early to say" in said and "undo the last" in said
    assert "Go on:   attune data label tickets.csv --out labels.jsonl --annotator ann" in said
    rows = answers(folder)
    assert [row.get("label", row.get("action")) for row in rows[:6]] == [
        "refund", "login", "refund", "undo", "skip", "delivery",
    ]  # fmt: skip
    assert rows[9]["source"] == "prelabel" and rows[9]["label"] == rows[9]["prelabel"]
    assert rows[10]["label"] == "spam" and len(rows) == 11  # nothing after q
    done = label(folder, "--annotator", "ann", lines="1\n")
    assert "8 of 60 labelled" in done.stdout and len(answers(folder)) == 12
    done = label(folder, "--export", "train.jsonl", "--json")
    assert json.loads(done.stdout)["written"] == 9
    found = load_records(folder / "train.jsonl")
    assert found.task == "classification" and all(one.meta["annotators"] == 1 for one in found.records)


def test_agreement_and_adjudication(folder: Path) -> None:
    label(folder, "--labels", "x,y", "--annotator", "ann", "--votes", "2", lines="1\n" * 10 + "2\n" * 10)
    assert "has labels of two annotators" in label(folder, "--agreement").stderr
    label(folder, "--annotator", "bo", "--votes", "2", lines="1\n" * 8 + "2\n" * 12)
    figures = json.loads(label(folder, "--agreement", "--json").stdout)
    assert figures["cohen"][0]["same"] == 0.9 and figures["cohen"][0]["kappa"]["value"] == pytest.approx(0.8)
    assert figures["cohen"][0]["kappa"]["low"] < 0.8 < figures["cohen"][0]["kappa"]["high"]
    said = label(folder, "--agreement").stdout
    assert "Cohen's kappa, ann and bo: 0.800" in said and "90.0% the same" in said and "Krippendorff" in said
    assert "left out, no majority: 2 (settle them: --adjudicate)" in label(folder, "--export", "t.jsonl").stdout
    done = label(folder, "--annotator", "judge", "--adjudicate", lines="2\n1\n")
    assert "ann: x" in done.stdout and "bo: y" in done.stdout and "No disagreement is left." in done.stdout
    assert json.loads(label(folder, "--export", "t.jsonl", "--json").stdout)["written"] == 20


def test_the_command_that_makes_data_reads_the_same_texts(folder: Path) -> None:
    with open(folder / "two.csv", "w", newline="") as file:
        rows = [["a longer text that nobody is to label", f"number {n}", "x" if n < 2 else ""] for n in range(6)]
        csv.writer(file).writerows([["text", "body", "kind"], *rows])
    given = ["--text", "body", "--target", "kind", "--labels", "x,y", "--annotator", "ann"]
    command = [sys.executable, "-m", "attune.cli", "data", "label", "two.csv", *given]
    done = subprocess.run(command, cwd=folder, env=ENV, input="1\n2\nq\n", capture_output=True, text=True, timeout=120)
    export = shlex.split(done.stdout.split("Make data of it:")[1])[1:]
    subprocess.run([sys.executable, "-m", "attune.cli", *export], cwd=folder, env=ENV, check=True, timeout=120)
    found = [json.loads(line) for line in (folder / "labelled.jsonl").read_text().splitlines()]
    assert len(found) == 4 and all(row["prompt"][0]["content"].startswith("number") for row in found)


def test_labels_that_are_numbers_are_names(folder: Path) -> None:
    done = label(folder, "--labels", "0,1,2", "--annotator", "ann", lines="1\n0\n3\nq\n")
    assert [row["label"] for row in answers(folder)] == ["1", "0"] and "'3' is no label" in done.stdout


def test_spans_and_several_labels(folder: Path) -> None:
    done = label(folder, "--labels", "A,B", "--task", "tagging", "--annotator", "ann", lines="1-2 A, 4 2\n9\n-\nq\n")
    assert "1:" in done.stdout and "is not `word label`" in done.stdout
    first, second = answers(folder)
    assert [span[2] for span in first["label"]] == ["A", "B"] and second["label"] == []
    lines = "1 2\nA, B\n-\n5\nq\n"
    label(folder, "--labels", "A,B", "--task", "multilabel", "--out", "m.jsonl", "--annotator", "ann", lines=lines)
    rows = [json.loads(line) for line in (folder / "m.jsonl").read_text().splitlines()[1:]]
    assert [row["label"] for row in rows] == [["A", "B"], ["A", "B"], []]


def test_a_text_cannot_command_the_terminal(folder: Path) -> None:
    (folder / "tickets.csv").write_text('note\n"red \x1b[31m[bold]alert[/bold] \x9b2J here"\n')
    done = label(folder, "--labels", "a,b", "--annotator", "ann", lines="q\n")
    assert "\x1b" not in done.stdout and "\x9b" not in done.stdout
    assert "red \\x1b[31m[bold]alert[/bold] \\x9b2J here" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--task", "taging"], 2, "did you mean 'tagging'"),
        (["--strategy", "mixd"], 3, "did you mean 'mixed'"),
        (["--text", "nte"], 3, "did you mean 'note'"),
        (["--out", "tickets.csv"], 2, "is the file to label"),
        (["--export", "x.jsonl", "--agreement"], 2, "give one of them"),
        (["--json"], 2, "--json goes with"),
        (["--export", "x.jsonl"], 3, "labels.jsonl is not there"),
    ],
)
def test_wrong_use_is_explained(folder: Path, words: list[str], code: int, said: str) -> None:
    done = label(folder, "--annotator", "ann", *words, lines="q\n")
    assert done.returncode == code and said in done.stderr
    assert (folder / "tickets.csv").read_text().startswith("note")


class _Terminal:
    """The command on a real terminal."""

    def __init__(self, folder: Path, *words: str):
        self.seen, self.read = b"", 0
        self.pid, self.fd = pty.fork()
        if not self.pid:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(folder)
            command = [sys.executable, "-m", "attune.cli", "data", "label", "tickets.csv", *words]
            os.execve(sys.executable, command, {**ENV, "TERM": "xterm"})

    def until(self, end: bytes, seconds: float = 60) -> bytes:
        """What the screen says up to `end`, from where this was asked last."""
        limit, start = time.monotonic() + seconds, self.read
        while (at := self.seen.find(end, start)) < 0:
            assert time.monotonic() < limit, self.seen[start:]
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65536)
        self.read = at + len(end)
        return self.seen[start : self.read]

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def end(self) -> int:
        """Its exit status."""
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it did not end")


def test_on_a_terminal(folder: Path) -> None:
    screen = _Terminal(folder, "--labels", "refund,login,delivery", "--annotator", "ann")
    for key in ("1\n", "2\n", "u\n", "2\n", "3\n", "1\n", "2\n", "3\n"):
        screen.until(b"> ")
        screen.type(key)
    screen.until(b"> ")
    screen.type("q\n")
    screen.until(b"--export labelled.jsonl")
    assert screen.end() == 0
    assert len([row for row in answers(folder) if "label" in row]) == 7
    screen = _Terminal(folder, "--annotator", "ann")
    screen.until(b"> ")
    time.sleep(1)  # between the prompt and the read, Python's own `input` does not see a signal before the next key
    screen.type("\x03")
    screen.until(b"Go on:")
    assert screen.end() == 130
    assert b"Traceback" not in screen.seen


@pytest.mark.torture
def test_killed_in_the_middle_no_answer_is_lost(folder: Path) -> None:
    """Each answer that the screen confirmed is in the file, whenever the process is killed."""
    confirmed = 0
    for turn in range(4):
        screen = _Terminal(folder, "--labels", "refund,login,delivery", "--annotator", "ann")
        for number in range(3 + turn):
            screen.until(b"> ")
            screen.type(f"{number % 3 + 1}\n")
            screen.until(b"kept: ")
            confirmed += 1
        os.kill(screen.pid, signal.SIGKILL)
        assert screen.end() == -signal.SIGKILL
        assert len(answers(folder)) == confirmed
    with open(folder / "labels.jsonl", "a") as file:
        file.write('{"id": "half a li')
    done = label(folder, "--annotator", "ann", lines="1\n")
    assert "cut off by a crash" in done.stdout and len(answers(folder)) == confirmed + 1
