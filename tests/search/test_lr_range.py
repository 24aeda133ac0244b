"""The learning-rate range test: what is read off a curve, and a real sweep of the bundled model."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attune.errors import RecipeError, UsageError
from attune.search.lr_range import lr_range, read_off


def curve(best: float, wrong: float, n: int = 120) -> tuple[list[float], list[float]]:
    """Loss falls most around `best` and rises from `wrong`."""
    rates = np.geomspace(1e-6, 1.0, n)
    fall = 1 / (1 + np.exp(-3 * (np.log(rates) - math.log(best))))
    rise = np.exp(2.5 * (np.log(rates) - math.log(wrong)))
    noise = np.random.default_rng(0).normal(0, 0.02, n)
    return rates.tolist(), (3 - 2 * fall + rise + noise).tolist()


def test_the_steepest_point_and_the_divergence_are_found() -> None:
    rates, losses = curve(best=1e-3, wrong=1e-1)
    found = read_off(rates, losses, usual=2e-3)
    # the running mean lags by some steps of 12 % each
    assert 7e-4 < found.steepest < 4e-3
    assert found.diverges is not None and 5e-2 < found.diverges < 0.5
    assert found.suggestion == pytest.approx(min(found.steepest, found.diverges / 10), rel=0.06)
    near = read_off(*curve(best=1e-3, wrong=4e-3), usual=2e-3)
    assert near.suggestion < found.suggestion and near.diverges is not None


def test_a_curve_that_only_falls_does_not_diverge() -> None:
    rates, losses = curve(best=1e-2, wrong=1e9)
    found = read_off(rates, losses, usual=1e-3)
    assert found.diverges is None and "never diverged" in found.sentence


def test_too_short_a_curve_is_refused() -> None:
    with pytest.raises(UsageError, match="no finite number"):
        read_off([1e-3] * 5, [1.0] * 5, 1e-3)
    for wrong in ({"steps": 5}, {"low": 1.0, "high": 0.1}, {"low": -1.0}):
        with pytest.raises(UsageError):
            lr_range({"data": {"path": "x.csv"}}, **wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_sweep_of_the_starter_leaves_only_its_page(tmp_path: Path) -> None:
    words = np.random.default_rng(0).choice(list("abcdefghijklmnop"), size=(120, 8))
    kinds = [("red", "blue", "green")[n % 3] for n in range(120)]
    rows = ["note,kind", *(f"{' '.join(line)} {kind} {n},{kind}" for n, (line, kind) in enumerate(zip(words, kinds)))]
    (tmp_path / "d.csv").write_text("\n".join(rows) + "\n")
    recipe = {
        "data": {"path": str(tmp_path / "d.csv"), "target": "kind", "split": {"validation": 0.0, "test": 0.2}},
        "adapter": "full",
        "objective": {"name": "classify", "head_init": "random"},
    }
    found = lr_range(recipe, steps=50, out=tmp_path / "out")
    again = lr_range(recipe, steps=50)
    assert found.losses == again.losses  # the same sweep: a step depends on the seed and its number
    assert found.usual / 300 <= found.suggestion <= found.usual * 30
    assert min(found.smoothed) < 0.7 * found.smoothed[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lr-range.html"]
    assert "<script" not in (tmp_path / "out/lr-range.html").read_text()


@pytest.mark.slow
def test_a_sweep_trains_as_the_recipe_does(tiny: Any, tmp_path: Path) -> None:
    """What acts in every step of the training acts in the sweep: a teacher, what is replayed, what pulls back."""
    rng = np.random.default_rng(0)
    words = "red green blue amber violet grey white black".split()
    rows = [{"prompt": f"say {n} {rng.choice(words)}", "completion": " ".join(rng.choice(words, 3))} for n in range(40)]
    (tmp_path / "say.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = {
        "model": {"base": tiny.base(tmp_path / "base")},
        "adapter": "full",
        "objective": "sft",
        "data": {"path": str(tmp_path / "say.jsonl"), "split": {"near": False}, "max_length": 64},
        "train": {"batch_size": 4, "threads": 1},
    }
    first = lr_range(plain, steps=20)
    taught = {"name": "distill", "teacher": str(tmp_path / "base"), "alpha": 1.0}
    same = lr_range({**plain, "objective": taught}, steps=20)
    assert first.losses[0] > 5 and same.losses[0] == pytest.approx(0, abs=1e-3), "at first it is its own teacher"
    held = lr_range({**plain, "retain": {"l2_sp": 1000.0}}, steps=20)
    assert held.losses[0] == first.losses[0] and held.losses[-1] != first.losses[-1]
    replayed = lr_range({**plain, "retain": {"replay": 0.5}}, steps=20)
    assert replayed.losses[0] != first.losses[0]


def test_stages_have_no_one_rate() -> None:
    staged = {"stages": [{"name": "one", "objective": "sft", "data": {"path": "x.jsonl"}}]}
    with pytest.raises(RecipeError, match="no one learning rate"):
        lr_range(staged)
