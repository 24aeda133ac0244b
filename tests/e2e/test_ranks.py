"""Two ranks through the command line give the losses of one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONS = [
    "--set=model.base=starter",  # it has no dropout, which every rank draws for itself
    "--set=train.max_steps=5",
    "--set=model.dtype=float32",
    "--set=train.eval_every=2",
    "--set=evaluate.baselines=[majority]",
    "--set=train.learning_rate=1e-4",
]


def rows(folder: Path) -> Path:
    draw = random.Random(0)
    path = folder / "small.csv"
    lines = ["text,label"]
    for number in range(160):
        label = draw.choice(["good", "bad"])
        verb = "like" if label == "good" else "hate"
        lines.append(
            f"I {verb} the {draw.choice(['red', 'blue'])} {draw.choice(['car', 'house', 'dog'])} {number},{label}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def history(folder: Path) -> list[dict]:
    [run] = [path.parent for path in folder.glob("*/status.json")]
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert (run / "report.html").exists()
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path: Path) -> None:
    data = rows(tmp_path)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    one = [sys.executable, "-m", "attune.cli", "run", str(data), "--out", str(tmp_path / "one"), "-q", *OPTIONS]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "-m",
        "attune.cli",
    ]
    two = [*launcher, "run", str(data), "--out", str(tmp_path / "two"), "-q", *OPTIONS]
    for command in (one, two):
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = history(tmp_path / "one"), history(tmp_path / "two")
    assert [row["step"] for row in first] == [row["step"] for row in second] == [1, 2, 3, 4, 5]
    for a, b in zip(first, second):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        assert a["scored"] == b["scored"]
