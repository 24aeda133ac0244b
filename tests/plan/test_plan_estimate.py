"""From measured pieces to a prediction: extrapolation, the step model, budgets, and steps that change nothing."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune.data.batch import Loader
from attune.data.some import train_sample
from attune.model.machine import peak_memory_gib
from attune.model.parallel import Parallel
from attune.plan.estimate import fit_budget, predict, within_time
from attune.plan.grow import grow
from attune.plan.stages import matrix_seconds, together
from attune.recipe import Recipe, Train
from attune.runs import Run
from attune.train.measure import Rate, Work, eval_interval, measure_forwards, measure_steps, most_steps, schedule_of
from attune.train.optim import Masters


def test_growing_work_is_extrapolated_without_its_fixed_part() -> None:
    cost = grow(lambda size: 1.0 + 0.01 * size, 10_000, start=16, limit=6.0)
    assert cost.seconds == pytest.approx(101, rel=0.02) and cost.measured < 0.2
    assert grow(lambda size: 0.001 * size, 100, start=16, limit=6.0).measured == 1.0
    assert grow(lambda size: 9.0, 100, start=10, limit=6.0).seconds == pytest.approx(90)  # one size: in proportion


def test_a_rate_finds_the_cost_of_a_token_and_of_a_pair() -> None:
    works = [Work(100.0 * n, 100.0 * n * width) for n in range(1, 6) for width in (20, 200)]
    rate = Rate.fitted(works, [0.01 + 1e-4 * work.tokens + 1e-6 * work.pairs for work in works])
    new = Work(1700, 1700 * 90)
    assert rate.seconds([new]) == pytest.approx(0.01 + 0.17 + 0.153, rel=0.01)
    few = Rate.fitted(works[:2], [0.1, 0.3])
    assert (few.fixed, few.per_pair) == (0.0, 0.0) and few.seconds([Work(200, 0)]) == pytest.approx(0.4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_measuring_leaves_weights_and_averages_as_they_were(tiny: Any, dtype: torch.dtype) -> None:
    policy = tiny.model()
    policy.settle()
    settings = Train(learning_rate=1e-2, batch_size=6)
    masters = Masters(policy, settings, dtype=dtype)
    before = {name: value.clone() for name, value in masters.weights().items()}
    loader = Loader(tiny.store(), seed=0, batch_size=6, layout="packed")
    found = measure_steps(policy, tiny.objective(), loader, masters, Parallel(), 48, total_steps=12, seconds=0.3)
    assert all(torch.equal(before[name], value) for name, value in masters.weights().items())
    assert not masters.moments() and all(parameter.grad is None for parameter in policy.parameters())
    assert (
        found.measured >= 3
        and 0 < found.seconds < 10
        and found.tokens
        == pytest.approx(np.mean([loader.store.lengths[loader.examples_of(step)].sum() for step in range(12)]))
    )
    once = measure_forwards(policy, tiny.objective(), [tiny.store()], 48, layout="packed", pad_id=0, seconds=0.2)
    assert 0 < once < 10
    thrice = [tiny.store()] * 3
    more = measure_forwards(policy, tiny.objective(), thrice, 48, layout="packed", pad_id=0, seconds=0.2)
    assert more > once


def test_the_first_call_does_not_pass_for_a_fixed_part() -> None:
    calls = []

    def run(size: int) -> float:
        calls.append(size)
        return 0.01 * size + (1.0 if len(calls) == 1 else 0.0)  # loads and compiles what later calls use

    assert grow(run, 2000, start=64, limit=6.0).seconds == pytest.approx(20, rel=0.02)
    assert calls[:2] == [64, 64]
    calls.clear()
    grow(lambda size: calls.append(size) or 3.0, 2000, start=64, limit=6.0)
    assert calls == [64, 256]  # too dear to be made twice


def test_the_training_sample_has_no_more_tokens_than_validation() -> None:
    class Store:
        def __init__(self, count: int, length: int):
            self.lengths = np.full(count, length)

        def __len__(self) -> int:
            return len(self.lengths)

    assert len(train_sample(Store(5000, 100), Store(10, 100))) == 128
    assert len(train_sample(Store(5000, 1024), Store(40, 1024))) == 40
    assert len(train_sample(Store(5000, 1024), Store(4, 1024))) == 32
    assert len(train_sample(Store(50, 10), Store(4, 10))) == 50


def test_evaluations_and_checkpoints_are_counted_as_the_loop_makes_them() -> None:
    settings = Train(batch_size=6, eval_every=4, save_every=3)
    assert schedule_of(settings, 10, 13, validates=True) == (4, 7)  # evaluations 4 8 12 13; saves also 3 6 9
    assert schedule_of(settings, 10, 13, validates=False) == (0, 5)
    assert eval_interval(Train(), 100, 1000) == 50 and eval_interval(Train(), 100, 40) == 10
    assert most_steps(100, 10.0, lambda n: 0.25 * n) == 40 and most_steps(100, 0.1, lambda n: n) == 1


def answered(system: str, seconds: float, task: str = "", *, rows: int = 200, writes: bool = False) -> dict[str, Any]:
    """One system on one task, of which a tenth was measured; its figures take nothing."""
    row = {"system": system, "task": task, "rows": rows, "writes": writes, "figures": 0.0}
    return row | {"seconds": seconds, "measured": 0.1, "spent": 1.0}


def facts(**training: Any) -> dict[str, Any]:
    """A rehearsal that found 1 s a step, 5 s a validation pass, and five systems."""
    step = {"seconds": 1.0, "spread": 0.02, "busy": 1.0, "tokens": 3000.0}
    systems = {"tuned": 10.0, "majority": 0.0, "tfidf": 5.0, "few_shot": 300.0, "zero_shot": 40.0}
    return {
        "head": "sequence", "prepare_seconds": 3.0, "set_up_seconds": 2.0, "save_seconds": 1.0, "memory_gib": 1.0,
        "whole_memory_gib": 1.2,
        "training": {
            "steps": 1000, "steps_per_epoch": 100, "step": step, "validation_seconds": 5.0, "checkpoint_seconds": 0.5,
            "validation_measured": True, "validation_tokens": 65_536, "head_seconds": 0.0,
            "processor": {"step": 1.0, "validation": 5.0, "checkpoint": 0.1}, **training,
        },
        "answers": {
            "base_seconds": 1.0, "load_seconds": 0.5, "loads": 0, "suites": [],
            "systems": [answered(name, seconds) for name, seconds in systems.items()],
        },
    }  # fmt: skip


def recipe(tmp_path: Path, **changes: Any) -> Recipe:
    return Recipe.load({"data": {"path": str(tmp_path / "x.csv"), "task": "classification"}, **changes})


def test_a_budget_is_kept_by_fewer_steps_and_fewer_baselines(tmp_path: Path) -> None:
    asked = recipe(tmp_path)
    whole = predict(facts(), asked)
    assert whole["steps"] == 1000 and whole["train_seconds"]["value"] > 1000 and "few_shot" in whole["systems"]
    for seconds in (120, 600, 1200):
        fitted, notes, found = fit_budget(facts(), asked, seconds)
        assert found["total_seconds"]["value"] <= seconds and notes and {"majority", "tfidf"} <= set(found["systems"])
        assert found["train_seconds"]["value"] >= 0.3 * seconds or found["steps"] == 1000
    assert "few_shot" not in fit_budget(facts(), asked, 600)[2]["systems"]
    fitted, notes, found = fit_budget(facts(), asked, 10_000)
    assert fitted == asked and not notes and found["steps"] == 1000


def test_suites_are_part_of_the_evaluation(tmp_path: Path) -> None:
    asked, bare, more = recipe(tmp_path), facts(), facts()
    row = {"suite": "retained texts", "seconds": 30.0, "measured": 0.5}
    more["answers"] |= {"suites": [row], "loads": 2}
    before, after = predict(bare, asked), predict(more, asked)
    assert after["evaluate_seconds"]["value"] - before["evaluate_seconds"]["value"] == pytest.approx(31)
    assert after["total_seconds"]["value"] - before["total_seconds"]["value"] == pytest.approx(31)
    assert after["suites"] == {"retained texts": 30.0} and before["suites"] == {}


def test_systems_of_several_tasks_add_up_and_only_written_answers_get_fewer(tmp_path: Path) -> None:
    several = facts()
    several["answers"]["systems"] = [
        answered("tuned", 10.0, "moods"), answered("tuned", 40.0, "say", writes=True), answered("tfidf", 5.0, "moods"),
        answered("few_shot", 80.0, "say", writes=True),
    ]  # fmt: skip
    found = predict(several, recipe(tmp_path))
    assert found["systems"] == {"tuned": 50.0, "tfidf": 5.0, "few_shot": 80.0}
    several["answers"]["skipped"] = ["few_shot"]  # there was no time to measure it on every task
    fitted, notes, _ = fit_budget(several, recipe(tmp_path), 10_000)
    assert fitted.evaluate.baselines == ["tfidf"] and "few_shot" in notes[0]
    fewer = predict(several, recipe(tmp_path, evaluate={"generate_rows": 50, "baselines": ["tfidf"]}))
    assert fewer["systems"] == {"tuned": 20.0, "tfidf": 5.0}


def test_choosing_the_weights_after_training_is_predicted(tmp_path: Path) -> None:
    whole = predict(facts(), recipe(tmp_path))
    assert whole["parts"]["choice"] == 0
    spread = predict(facts(), recipe(tmp_path, retain={"interpolate": True}))
    assert spread["parts"]["choice"] == pytest.approx(11 * 5.0 / 4)  # a quarter of the validation tokens at each share
    limited = predict({**facts(), "choice_seconds": 2.0}, recipe(tmp_path, retain={"limit": 1}))
    assert limited["parts"]["choice"] == pytest.approx(2.0 * (2 * 11 - 1))  # two checkpoints, the base once
    gap = limited["total_seconds"]["value"] - whole["total_seconds"]["value"]
    assert gap == pytest.approx(limited["parts"]["choice"])


def test_a_recipes_own_training_budget_is_kept_to(tmp_path: Path) -> None:
    frozen, found = within_time(facts(), recipe(tmp_path, train={"budget": "5m"}))
    assert found["steps"] == frozen.train.max_steps < 300 and 250 < found["train_seconds"]["value"] <= 300
    assert within_time(facts(), recipe(tmp_path))[1]["steps"] == 1000


def test_what_cannot_be_predicted_is_said(tmp_path: Path) -> None:
    distill = {"name": "distill", "teacher": "starter", "mode": "on_policy"}
    assert any(
        "the student writes" in what for what in predict(facts(), recipe(tmp_path, objective=distill))["missing"]
    )
    assert predict(facts(), recipe(tmp_path))["missing"] == []


def test_stages_add_up_and_every_model_is_asked_every_column_it_can_answer(tmp_path: Path) -> None:
    one, two = facts(), facts()
    two |= {"head": "lm", "memory_gib": 3.0}
    three = two | {"memory_gib": 2.0}
    matrix = matrix_seconds([one, two, three])
    # the classifier answers its own rows alone; of the writing stages' rows, the base and both writers
    assert matrix["value"] == pytest.approx(10 + 2 * 3 * 10 + 4 * 0.5 + 3 * 3.0)
    found = {f"{n}-x": predict(part, recipe(tmp_path)) for n, part in enumerate((one, two, three), 1)}
    whole = together(found, matrix)
    assert whole["steps"] == 3000 and whole["memory_gib"]["value"] == 3.0
    single = predict(one, recipe(tmp_path))["total_seconds"]["value"]
    assert whole["total_seconds"]["value"] == pytest.approx(3 * single + matrix["value"], rel=1e-3)


def test_a_budget_for_nothing_useful_is_refused(tmp_path: Path) -> None:
    from attune.errors import MachineError

    with pytest.raises(MachineError, match="nothing useful fits"):
        fit_budget(facts(), recipe(tmp_path), 5)
    with pytest.raises(MachineError, match="the rehearsal took 20 s more than the whole budget"):
        fit_budget(facts(), recipe(tmp_path), -20)


def test_peak_memory_is_this_processes_own(tmp_path: Path) -> None:
    """A child of a large parent starts small: ru_maxrss would say it had the parent's size."""
    import subprocess
    import sys

    ballast = np.ones(400 << 17)  # 400 MiB
    code = "from attune.model.machine import peak_memory_gib; import resource\nprint(peak_memory_gib())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.02 < float(done.stdout) < peak_memory_gib() and ballast[0] == 1


@pytest.mark.slow
def test_a_rehearsed_run_is_scored(tmp_path: Path) -> None:
    from attune.flow import train

    words = "river stone cloud paper garden winter engine silver window bridge candle forest market planet".split()
    draw = random.Random(0)
    rows = [{"text": " ".join(draw.sample(words, 8)), "label": "yn"[at % 2]} for at in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = {
        "data": {"path": str(tmp_path / "rows.jsonl")},
        "adapter": "full",
        "evaluate": {"baselines": ["majority"]},
    }
    done: Run = train({**values, "train": {"max_steps": 3, "batch_size": 8}}, out=tmp_path / "runs", plan=True)
    kept = json.loads((done.path / "plan.json").read_text())
    assert kept["estimate"]["steps"] == 3 and kept["actual"]["steps"] == 3
    what = [row["what"] for row in done.results["plan"]]
    assert {"training time", "evaluation time", "peak memory in training"} <= set(what)
    assert not list((tmp_path / "runs").glob(".plan-*"))
