"""The duplicate steps: which rows go, which stays for them, and what the ledger says."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from attune import plugins
from attune.data.desk import Desk
from attune.data.steps import Context, Step
from attune.records import Completion, Message, Record

WORDS = "card bank transfer fee limit refund branch order parcel invoice salary rent pension travel".split()


def row(name: str, text: str, label: Any = "a", **meta: object) -> Record:
    return Record(name, (Message("user", text),), label=label, meta=meta)


def answered(name: str, prompt: str, *answers: str) -> Record:
    return Record(name, (Message("user", prompt),), tuple(Completion((Message("assistant", one),)) for one in answers))


def sentence(seed: int, words: int = 40) -> str:
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)}{draw.randrange(300)}" for _ in range(words))


def changed(text: str, *places: int) -> str:
    words = text.split()
    for place in places:
        words[place] = f"new{place}"
    return " ".join(words)


def step(name: str, **options: Any) -> Step:
    plugin: Any = plugins.get("step", name)
    return plugin(plugin.Config(**options), Context())


def run(
    folder: Path, train: Sequence[Record], one: Step
) -> tuple[list[str], dict[str, dict[str, Any]], dict[str, Any]]:
    """Ids that stay, ledger lines by id, facts. The test part holds the same rows and must be left alone."""
    desk = Desk([one], folder)
    parts = desk.run({"train": train, "test": train})
    assert [record.id for record in parts["test"]] == [record.id for record in train]
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return [record.id for record in parts["train"]], {line["id"]: line for line in lines}, desk.facts[0]


def test_exact_leaves_variants_and_says_which_row_stays(tmp_path: Path) -> None:
    rows = [row("1", "Hello there"), row("2", "hello there!"), row("3", "Hello there"), row("4", "x"), row("5", "x")]
    stay, ledger, facts = run(tmp_path, rows, step("exact_duplicates"))
    assert stay == ["1", "2", "4"]
    assert ledger["3"]["kept"] == "1" and ledger["5"]["kept"] == "4" and ledger["3"]["action"] == "drop"
    assert "jaccard" not in ledger["3"]
    assert (facts["left_out"], facts["clusters_with_several_labels"], facts["counts"]) == (2, 0, {"drop": 2})


def test_normalised(tmp_path: Path) -> None:
    rows = [row("1", "Hello there"), row("2", "  hello  THERE!"), row("3", "Hello you")]
    stay, ledger, _ = run(tmp_path, rows, step("normalised_duplicates"))
    assert stay == ["2", "3"], "the longer text stays"
    assert ledger["1"]["kept"] == "2"


def test_near_says_the_jaccard_and_respects_its_threshold(tmp_path: Path) -> None:
    text = sentence(1)
    rows = [row("1", text), row("2", changed(text, 20)), row("3", sentence(2))]
    stay, ledger, facts = run(tmp_path / "a", rows, step("near_duplicates"))
    assert stay == ["1", "3"] or stay == ["2", "3"]
    gone = ({"1", "2"} - set(stay)).pop()
    assert ledger[gone]["jaccard"] == pytest.approx(35 / 41, abs=1e-4)
    assert facts["near"] == 1 and facts["estimated_recall"] > 0.999
    assert run(tmp_path / "b", rows, step("near_duplicates", threshold=0.9))[0] == ["1", "2", "3"]


def test_a_chain_is_not_one_cluster_of_copies(tmp_path: Path) -> None:
    """1 is near 2 and 2 is near 3, but 1 and 3 are not near: whatever stays, nothing goes that is not near a row that
    stays."""
    text = sentence(3, 44)
    rows = [
        row("1", text),
        row("2", changed(text, 5)),
        row("3", changed(text, 5, 15)),
        row("4", changed(text, 5, 15, 35)),
    ]
    stay, ledger, _ = run(tmp_path, rows, step("near_duplicates"))
    texts = {one.id: one.text for one in rows}

    def jaccard(a: str, b: str) -> float:
        one, two = ({tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in (a.split(), b.split()))
        return len(one & two) / len(one | two)

    assert len(stay) == 2
    for name, line in ledger.items():
        assert line["kept"] in stay
        assert (
            jaccard(texts[name], texts[line["kept"]]) == pytest.approx(line["jaccard"], abs=1e-4)
            and line["jaccard"] >= 0.8
        )
    assert jaccard(texts[stay[0]], texts[stay[1]]) < 0.8


@pytest.mark.parametrize("name", ["exact_duplicates", "near_duplicates"])
@pytest.mark.parametrize(
    ("rows", "stays"),
    [
        ([("1", None, {}), ("2", "a", {})], "2"),  # labelled before unlabelled
        ([("1", "b", {}), ("2", "a", {}), ("3", "a", {})], "2"),  # the usual label
        ([("1", "b", {}), ("2", "a", {})], "1"),  # a draw: the first
        ([("1", "a", {"branch": ""}), ("2", "a", {"branch": "x"})], "2"),  # more columns filled
    ],
)
def test_the_best_row_stays(tmp_path: Path, name: str, rows: list, stays: str) -> None:
    text = sentence(4)
    stay, ledger, _ = run(tmp_path, [row(one, text, label, **meta) for one, label, meta in rows], step(name))
    assert stay == [stays]
    assert {line["kept"] for line in ledger.values()} == {stays}


def test_the_longest_of_near_copies_stays(tmp_path: Path) -> None:
    text = sentence(5)
    assert run(tmp_path, [row("1", text), row("2", text + " and more")], step("near_duplicates"))[0] == ["2"]


def test_the_usual_label_beats_the_longest_text(tmp_path: Path) -> None:
    text = sentence(6)
    rows = [row("1", text + " more", "wrong"), row("2", text, "a"), row("3", text.upper(), "a")]
    stay, _, facts = run(tmp_path, rows, step("near_duplicates"))
    assert stay == ["2"] and facts["clusters_with_several_labels"] == 1


def test_prompt_and_answers_are_compared_together(tmp_path: Path) -> None:
    rows = [
        answered("1", "What is a fee?", "A price."),
        answered("2", "What is a fee?", "A charge."),
        answered("3", "What is a fee?", "A price."),
        answered("4", "Which?", "This one.", "That one."),
        answered("5", "Which?", "That one.", "This one."),
    ]
    assert run(tmp_path, rows, step("exact_duplicates"))[0] == ["1", "2", "4", "5"]


def test_rows_of_two_tasks_are_no_copies(tmp_path: Path) -> None:
    one = row("1", "the same text")
    other = Record("2", one.prompt, label="x", task="topic")
    assert run(tmp_path, [one, other], step("exact_duplicates"))[0] == ["1", "2"]


def test_nothing_twice(tmp_path: Path) -> None:
    stay, ledger, facts = run(tmp_path, [row(str(i), sentence(i)) for i in range(20)], step("near_duplicates"))
    assert len(stay) == 20 and ledger == {} and facts["left_out"] == 0


# conflicts ----------------------------------------------------------------------------------------------------------

TORN = [
    row("1", "Where is my card?", "card"),
    row("2", "where is my card", "card"),
    row("3", "Where is my card", "delivery"),
    row("4", "a draw", "x"),
    row("5", "A draw!", "y"),
    row("6", "alone", "x"),
    row("7", "unlabelled", None),
    row("8", "unlabelled", "x"),
]


@pytest.mark.parametrize(
    ("action", "stay"),
    [("keep_majority", "12678"), ("drop", "678"), ("report", "12345678")],
)
def test_conflicts(tmp_path: Path, action: str, stay: str) -> None:
    kept, ledger, facts = run(tmp_path, TORN, step("conflicts", action=action))
    assert kept == list(stay)
    assert (facts["sets"], facts["rows"], facts["draws"]) == (2, 5, 1)
    assert facts["examples"][0] == {"ids": ["1", "2", "3"], "labels": ["card", "card", "delivery"]}
    if action == "keep_majority":
        assert ledger["3"]["reason"] == "the same text has different labels: card / delivery; most rows say 'card'"


def test_conflicts_exact_and_near(tmp_path: Path) -> None:
    assert run(tmp_path / "a", TORN, step("conflicts", same="exact"))[0] == list("12345678")
    text = sentence(7)
    rows = [row("1", text, "a"), row("2", changed(text, 39), "b"), row("3", changed(text, 0), "a")]
    assert run(tmp_path / "b", rows, step("conflicts"))[0] == ["1", "2", "3"]
    assert run(tmp_path / "c", rows, step("conflicts", same="near", threshold=0.85))[0] == ["1", "3"]


def test_several_classes_in_another_order_are_no_conflict(tmp_path: Path) -> None:
    rows = [row("1", "text one", ("a", "b")), row("2", "text one", ("b", "a")), row("3", "text two", ("a",))]
    assert run(tmp_path, rows, step("conflicts"))[0] == ["1", "2", "3"]


# the same everywhere ------------------------------------------------------------------------------------------------

JOB = """
import hashlib, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_steps_dup import changed, row, run, sentence, step
rows = [row(str(i), changed(sentence(i % 60), *range(i % 3)), "ab"[i % 2]) for i in range(300)]
for number, name in enumerate(("conflicts", "exact_duplicates", "normalised_duplicates", "near_duplicates")):
    run(Path(sys.argv[1]) / str(number), rows, step(name))
    print(hashlib.sha256((Path(sys.argv[1]) / str(number) / "ledger.jsonl").read_bytes()).hexdigest())
"""


def test_every_process_gives_the_same_ledger(tmp_path: Path) -> None:
    printed = set()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", JOB, str(tmp_path / seed), str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1 and len(printed.pop().split()) == 4
