"""Real data sets load with the number of rows they are known to have. They lie outside the project: `ATTUNE_SHARED`."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from attune.data.sources import load_records

SHARED = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared")) / "data"

SETS = [
    ("banking77/train.csv", "labelled", "classification", 10_003),
    ("banking77/test.csv", "labelled", "classification", 3_080),
    ("clinc150/data_full.json", "split_pairs", "classification", 23_700),
    ("wnut17/wnut17train.conll", "conll", "tagging", 3_394),
    ("wnut17/emerging.dev.conll", "conll", "tagging", 1_009),
    ("wnut17/emerging.test.annotated", "conll", "tagging", 1_287),
    ("instructions/dolly_mix.jsonl", "alpaca", "generation", 6_623),
    ("instructions/dolly_open_qa", "single_text_chat", "generation", 3_742),
    ("instructions/gpteacher_roleplay", "alpaca", "generation", 3_146),
    ("instructions/glaive_toolcall_demo", "sharegpt", "generation", 300),
    ("instructions/self_instruct_seed", "alpaca", "generation", 175),
    ("instructions/llamafactory_identity", "alpaca", "generation", 91),
    ("gsm8k/train.jsonl", "verifiable", "verifiable", 7_473),
    ("gsm8k/test.jsonl", "verifiable", "verifiable", 1_319),
    ("scitldr/train.jsonl", "pairs", "generation", 1_992),
    ("onestop_simplify/ADV-ELE.txt", "text_pairs", "generation", 2_166),
    ("sgd_dialogues", "sgd_dialogues", "generation", 128),
    ("preferences/pandalm", "votes", "preference", 913),
    ("preferences/anthropic_persona", "persona", "preference", 7_000),
    ("eval_text/wikitext2/valid.txt", "text", "text", 1),
]


def load(name: str, **options):
    if not (SHARED / name).exists():
        pytest.skip(f"real data not found: {SHARED / name} (set ATTUNE_SHARED)")
    return load_records(SHARED / name, **options)


@pytest.mark.parametrize(("name", "format", "task", "count"), SETS)
def test_shared_set_loads_whole(name, format, task, count):
    loaded = load(name)
    assert (loaded.format, loaded.task) == (format, task), loaded.why
    lost = sum(loaded.counts["dropped"].values())
    assert loaded.counts["read"] == len(loaded.records) + lost and loaded.counts["bad"] == 0
    assert len(loaded.records) == count
    assert len({record.id for record in loaded.records}) == len(loaded.records)


def test_labels_splits_and_spans_of_shared_sets():
    assert len({record.label for record in load("banking77/train.csv").records}) == 77
    clinc = load("clinc150/data_full.json").records
    assert (
        Counter(record.meta["split"] for record in clinc)["train"] == 15_000
        and len({record.label for record in clinc}) == 151
    )
    wnut = load("wnut17/wnut17train.conll").records
    assert {span.label for record in wnut for span in record.label} == {
        "person",
        "location",
        "group",
        "creative-work",
        "corporation",
        "product",
    }
    assert sum(len(record.label) for record in wnut) == 1_975


def test_tool_calls_and_final_answers_of_shared_sets():
    glaive = load("instructions/glaive_toolcall_demo").records
    turns = [turn for record in glaive for turn in (*record.prompt, *record.completions[0].messages)]
    assert sum(bool(turn.tool_calls) for turn in turns) == 211 == sum(turn.role == "tool" for turn in turns)
    assert all(
        record.answer.replace(",", "").lstrip("-").replace(".", "").isdigit()
        for record in load("gsm8k/test.jsonl").records
    )


def test_packed_corpus_is_plain_text():
    loaded = load("../corpus/part-1.jsonl.zst", limit=200)
    assert (loaded.task, len(loaded.records)) == ("text", 200)
