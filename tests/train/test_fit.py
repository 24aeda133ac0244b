"""The loop: resuming, signals, early stopping, divergence, memory."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from attune.errors import DivergedError, Interrupted, MachineError
from attune.train import checkpoint


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns(tiny: Any, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    progress, _ = tiny.train(tmp_path, steps=20, log=rows.append)
    assert progress.step == 20 and rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert all(row["grad_norm"] > 0 for row in rows)
    assert progress.tokens == sum(int(tiny.store().lengths.sum()) for _ in range(5))  # 20 steps are 5 epochs


@pytest.mark.parametrize("adapter", ["full", "lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_bit_identical_from_every_checkpoint(
    tiny: Any, tmp_path: Path, adapter: str, dtype: torch.dtype
) -> None:
    options = dict(steps=7, adapter=adapter, dropout=0.1, dtype=dtype)
    first: list[dict[str, Any]] = []
    _, whole = tiny.train(tmp_path / "whole", log=first.append, **options)
    assert checkpoint.steps(tmp_path / "whole") == list(range(1, 8))
    for step in range(1, 7):
        rows: list[dict[str, Any]] = []
        point = checkpoint.verify(tmp_path / "whole" / f"step-{step:06d}")
        progress, again = tiny.train(tmp_path / f"from-{step}", resume=point, log=rows.append, **options)
        assert equal(whole, again), f"resumed from step {step}"
        assert [row["loss"] for row in rows] == [row["loss"] for row in first[step:]]
        assert progress.step == 7


def test_dropout_is_drawn_in_training(tiny: Any, tmp_path: Path) -> None:
    """Else the resume test above would prove nothing about it."""
    _, with_dropout = tiny.train(tmp_path / "a", steps=2, dropout=0.3)
    _, without = tiny.train(tmp_path / "b", steps=2)
    _, repeated = tiny.train(tmp_path / "c", steps=2, dropout=0.3)
    assert not equal(with_dropout, without) and equal(with_dropout, repeated)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_resumes_identically(tiny: Any, tmp_path: Path, signum: int) -> None:
    _, whole = tiny.train(tmp_path / "whole", steps=6)

    def at_three(row: dict[str, Any]) -> None:
        if row["step"] == 3:
            os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as caught:
        tiny.train(tmp_path / "cut", steps=6, save_every=None, log=at_three)
    assert caught.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before
    point, damaged = checkpoint.latest(tmp_path / "cut")
    assert point is not None and point.step == 4 and not damaged  # the step that was under way is finished
    _, again = tiny.train(tmp_path / "cut", steps=6, resume=point)
    assert equal(whole, again)


class Scripted:
    """Validation figures given in advance, and the steps at which they were asked for."""

    def __init__(self, values: list[float]):
        self.values, self.rows = values, []

    def __call__(self) -> dict[str, float]:
        value = self.values[len(self.rows)]
        self.rows.append(value)
        return {"validation/loss": 1.0 if math.isnan(value) else value, "validation/score": value}


@pytest.mark.parametrize("at", [1, 2, 3, 6])
def test_an_evaluation_cut_off_by_a_signal_is_made_up(tiny: Any, tmp_path: Path, at: int) -> None:
    values = [3.0, 1.0, 2.0]

    def send(row: dict[str, Any]) -> None:
        if row["step"] == at - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    options = dict(steps=6, eval_every=2, primary=("validation/loss", False))
    expected, _ = tiny.train(tmp_path / "whole", evaluate=Scripted(values), **options)
    script = Scripted(values)
    if at == 1:
        ended, _ = tiny.train(tmp_path / "cut", evaluate=script, **options)
    else:
        with pytest.raises(Interrupted):
            tiny.train(tmp_path / "cut", evaluate=script, log=send, **options)
        ended, _ = tiny.train(
            tmp_path / "cut", evaluate=script, resume=checkpoint.latest(tmp_path / "cut")[0], **options
        )
    assert script.rows == values
    assert (ended.best, ended.best_step, ended.stale) == (expected.best, expected.best_step, expected.stale)


def test_early_stopping_and_the_best_step(tiny: Any, tmp_path: Path) -> None:
    script = Scripted([3.0, 1.0, 2.0, 2.0, 2.0, 0.5])
    settings = {"early_stopping": {"patience": 3}, "keep_checkpoints": 1}
    progress, _ = tiny.train(
        tmp_path, steps=12, eval_every=1, evaluate=script, primary=("validation/loss", False), settings=settings
    )
    assert progress.stopped == "early" and progress.step == 5 and (progress.best, progress.best_step) == (1.0, 2)
    assert checkpoint.steps(tmp_path) == [2, 5]  # the newest, and the best beside it
    assert checkpoint.verify(tmp_path / "step-000002").state["best_step"] == 2
    resumed, _ = tiny.train(tmp_path, steps=12, resume=checkpoint.latest(tmp_path)[0], settings=settings)
    assert resumed.step == 5  # stopped stays stopped


def test_higher_is_better_where_it_is(tiny: Any, tmp_path: Path) -> None:
    script = Scripted([0.1, 0.9, 0.5])
    progress, _ = tiny.train(tmp_path, steps=3, eval_every=1, evaluate=script, primary=("validation/score", True))
    assert progress.best_step == 2 and progress.stale == 1


def test_a_figure_that_is_no_number_is_never_the_best(tiny: Any, tmp_path: Path) -> None:
    script = Scripted([math.nan, 0.3, math.nan])
    progress, _ = tiny.train(tmp_path, steps=3, eval_every=1, evaluate=script, primary=("validation/score", True))
    assert (progress.best, progress.best_step) == (0.3, 2)


def test_a_budget_stops_and_a_larger_one_goes_on(tiny: Any, tmp_path: Path) -> None:
    _, whole = tiny.train(tmp_path / "whole", steps=4)
    progress, _ = tiny.train(tmp_path / "cut", steps=4, deadline_seconds=1e-9)
    assert (progress.stopped, progress.step) == ("budget", 1)
    same, _ = tiny.train(
        tmp_path / "cut", steps=4, deadline_seconds=1e-9, resume=checkpoint.latest(tmp_path / "cut")[0]
    )
    assert same.step == 1
    progress, again = tiny.train(
        tmp_path / "cut", steps=4, deadline_seconds=1e9, resume=checkpoint.latest(tmp_path / "cut")[0]
    )
    assert progress.step == 4 and progress.stopped == "" and equal(whole, again)


# not a number ---------------------------------------------------------------------------------------------------------


class Poisoned(torch.nn.Module):
    """A head whose output, or whose gradient alone, turns into NaN at a given call."""

    def __init__(self, head: torch.nn.Module, at: int, gradient: bool):
        super().__init__()
        self.head, self.at, self.gradient, self.calls = head, at, gradient, 0
        self.weight = head.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        out = self.head(hidden)
        if self.training:
            self.calls += 1
            if self.calls == self.at:
                if not self.gradient:
                    return out * math.nan
                out.register_hook(lambda gradient: gradient * math.nan)
        return out


def no_nan_in(folder: Path) -> int:
    files = list(folder.rglob("*.safetensors"))
    for file in files:
        assert all(bool(torch.isfinite(tensor).all()) for tensor in load_file(file).values()), file
    for file in folder.rglob("state.json"):
        json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"a saved state holds {name}"))
    return len(files)


@pytest.mark.parametrize("where", ["loss", "gradient", "evaluation"])
def test_a_nan_stops_within_a_step(tiny: Any, tmp_path: Path, where: str) -> None:
    policy = tiny.model()
    arguments: dict[str, Any] = {"micro_batch_tokens": None}
    if where == "evaluation":
        arguments |= {"evaluate": lambda: {"validation/loss": math.nan}, "eval_every": 3}
    else:
        assert policy.settle() == "packed"
        policy.model.lm_head = Poisoned(policy.model.lm_head, 3, where == "gradient")
    with pytest.raises(DivergedError) as caught:
        tiny.train(
            tmp_path, steps=6, policy=policy, layout="packed" if where == "evaluation" else "as it is", **arguments
        )
    assert caught.value.exit_code == 6
    assert "step 3" in caught.value.what and "step 2" in (caught.value.fix or "")
    assert checkpoint.steps(tmp_path) == [1, 2]
    assert no_nan_in(tmp_path) == 4


# memory ---------------------------------------------------------------------------------------------------------------


class Small(torch.nn.Module):
    """A trunk on a machine with room for so many tokens."""

    def __init__(self, trunk: torch.nn.Module, room: int):
        super().__init__()
        self.trunk, self.room, self.refused = trunk, room, 0

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.trunk.get_input_embeddings()

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        if input_ids.numel() > self.room:
            self.refused += 1
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {input_ids.numel()} tokens.")
        return self.trunk(input_ids=input_ids, **kwargs)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_out_of_memory_cuts_the_same_step_finer(tiny: Any, tmp_path: Path, layout: str) -> None:
    _, whole = tiny.train(tmp_path / "whole", steps=4, dtype=torch.float64, micro_batch_tokens=None, layout=layout)
    policy = tiny.model()
    if layout == "packed":
        policy.settle()
    policy.model.model = Small(policy.model.model, room=30)
    progress, again = tiny.train(
        tmp_path / "small", steps=4, dtype=torch.float64, micro_batch_tokens=None, policy=policy,
        layout=layout if layout == "padded" else "as it is",
    )  # fmt: skip
    assert policy.model.model.refused >= 1 and progress.notes and progress.micro_batch_tokens <= 30
    assert progress.step == 4
    for (name, one), other in zip(whole.items(), again.values()):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=name)


def test_out_of_memory_with_one_example_is_an_error(tiny: Any, tmp_path: Path) -> None:
    """Some examples fit and one never does: halving must end."""
    policy = tiny.model()
    policy.settle()
    policy.model.model = Small(policy.model.model, room=int(tiny.store().lengths.max()) - 1)
    with pytest.raises(MachineError, match="out of memory at step .* single example") as caught:
        tiny.train(tmp_path, steps=4, policy=policy, micro_batch_tokens=None, layout="as it is")
    assert caught.value.exit_code == 5


def test_another_runtime_error_is_not_taken_for_memory(tiny: Any, tmp_path: Path) -> None:
    policy = tiny.model()
    policy.model.lm_head = torch.nn.Linear(5, 5)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied|size mismatch"):
        tiny.train(tmp_path, steps=1, policy=policy, layout="padded")


def test_a_growing_gap_stops_it(tiny: Any, tmp_path: Path) -> None:
    """Validation gets better at every evaluation, so patience would not: the training rows get better faster."""
    losses = iter([(2.0, 1.9), (1.9, 1.6), (1.8, 1.2), (1.7, 0.8), (1.6, 0.4)])

    def evaluate() -> dict[str, float]:
        held, seen = next(losses)
        return {"validation/loss": held, "train_sample/loss": seen}

    rows: list[dict[str, Any]] = []
    asked = {"early_stopping": {"max_gap": 0.5, "patience": 3}}
    progress, _ = tiny.train(
        tmp_path, steps=10, eval_every=2, evaluate=evaluate, primary=("validation/loss", False), settings=asked,
        log=rows.append,
    )  # fmt: skip
    gaps = [row["gap"] for row in rows if "gap" in row]
    assert gaps == pytest.approx([0.1, 0.2, (0.1 + 0.3 + 0.6) / 3, (0.3 + 0.6 + 0.9) / 3])
    assert (progress.step, progress.stopped) == (8, "gap") and progress.best_step == 8


def test_a_limit_strengthens_the_pull_and_keeps_the_best_within_it(tiny: Any, tmp_path: Path) -> None:
    figures = [(2.0, 0.5), (1.5, 0.9), (1.2, 1.5), (1.1, 2.0), (1.3, 0.8)]

    def train(folder: Path, **more: Any) -> Any:
        told: list[float] = []
        calls = iter(figures[more["resume"].step // 2 :] if "resume" in more else figures)

        def evaluate() -> dict[str, float]:
            held, drop = next(calls)
            return {"validation/loss": held, "retain/drop": drop}

        progress, weights = tiny.train(
            folder, steps=10, eval_every=2, evaluate=evaluate, primary=("validation/loss", False), limit=1.0,
            strengthen=told.append, settings={"keep_checkpoints": 1, "early_stopping": None}, save_every=None, **more,
        )  # fmt: skip
        return progress, weights, told

    progress, whole, told = train(tmp_path / "whole")
    assert told == [1, 1, 1, 1, 1, 1, 2, 2, 4, 4] and progress.pull == 4
    assert (progress.best_step, progress.best) == (8, 1.1)
    assert (progress.within_step, progress.within) == (10, 1.3)
    assert checkpoint.steps(tmp_path / "whole") == [8, 10]
    first, _, _ = train(tmp_path / "again", resume=checkpoint.verify(tmp_path / "whole" / "step-000008"))
    assert (first.within_step, first.pull) == (10, 4)
