"""Trainings one after another: chained exactly, not repeated where unchanged, and gone on with after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune import flow
from attune.errors import RecipeError, UsageError
from attune.flow_stages import _key
from attune.recipe import Recipe
from attune.runs import Run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama with the starter's tokenizer, as a folder."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from attune.model.load import STARTER

    folder = tmp_path_factory.mktemp("base") / "tiny"
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


WORDS = "red green blue amber violet grey white black olive pink".split()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)

    def some() -> str:
        return " ".join(rng.choice(WORDS, 6))

    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": some() + "."}) + "\n" for _ in range(80)))
    (tmp_path / "text-test.jsonl").write_text("".join(json.dumps({"text": some() + "!"}) + "\n" for _ in range(40)))
    for name, start in (("ask", 0), ("narrow", 1)):
        rows = [
            {"prompt": f"{name} {number} {some()}", "completion": WORDS[(number + start) % 10]} for number in range(40)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [f'"{some()} {number}",{WORDS[number % 3]}' for number in range(60)]
    (tmp_path / "labels.csv").write_text("\n".join(["text,label", *rows]))
    return tmp_path


def recipe(base: str, data: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "course",
        "model": {"base": base},
        "adapter": "full",
        "train": {"max_steps": 3, "batch_size": 4, "learning_rate": 5e-3, "early_stopping": None, "threads": 1},
        "data": {"max_length": 64, "split": {"validation": 0.2, "test": 0.2, "near": False}},
        "evaluate": {"baselines": [], "bootstrap": 100, "generate_rows": 4, "max_new_tokens": 4},
        "stages": [
            {
                "name": "general",
                "objective": "pretrain",
                "data": {"path": str(data / "text.jsonl"), "test": str(data / "text-test.jsonl"), "task": "text"},
            },
            {"name": "ask", "objective": "sft", "data": {"path": str(data / "ask.jsonl")},
             "adapter": {"type": "lora", "r": 4}},
            {"name": "narrow", "objective": "sft", "data": {"path": str(data / "narrow.jsonl")}},
        ],
        **more,
    }  # fmt: skip


def weights(run: Run) -> dict[str, torch.Tensor]:
    model = run.load().policy.model
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_chained_stages_equal_runs_by_hand_and_are_not_repeated(base: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    whole = flow.train(recipe(base, data), out=out, assess=False)
    assert [run.path.name for run in whole.stages] == ["1-general", "2-ask", "3-narrow"]
    assert whole.last.path.name == "3-narrow" and whole.status["state"] == "done"

    by_hand = tmp_path / "hand"
    before: Run | None = None
    for number, stage in enumerate(Recipe.load(recipe(base, data)).stage_recipes):
        own = {"name": f"hand-{number}", **({"model.base": str(before.path)} if before else {})}
        before = flow.train(stage.replace(own), out=by_hand, assess=False)
    assert before is not None and same(weights(whole), weights(before))
    # the adapter of the second stage is in the base of the third
    merged = whole.stages[1].path / "base"
    first = weights(whole.stages[0])
    from transformers import AutoModelForCausalLM

    second = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    assert not same(first, second.state_dict())
    logits = [model(torch.arange(5, 15)[None]).logits for model in (second.eval(), whole.stages[1].load().policy.model)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    lineage = json.loads((merged / "manifest.json").read_text())
    assert lineage["base"] == str(whole.stages[0].path.resolve()) and "model.safetensors" in lineage["base_files"]

    # the same command does nothing again
    born = {run.path.name: run.status["created"] for run in whole.stages}
    again = flow.train(recipe(base, data), out=out, assess=False)
    assert {run.path.name: run.status["created"] for run in again.stages} == born
    # a change in the second stage leaves the first, and makes the later ones anew
    changed = flow.train(recipe(base, data), ["stages.ask.train.max_steps=2"], out=out, assess=False)
    now = {run.path.name: run.status["created"] for run in changed.stages}
    assert now["1-general"] == born["1-general"] and now["2-ask"] > born["2-ask"] and now["3-narrow"] > born["3-narrow"]
    assert not same(weights(changed), weights(before))
    # undone, it comes back
    back = flow.train(recipe(base, data), out=out, assess=False)
    assert {run.path.name: run.status["created"] for run in back.stages} == born
    assert same(weights(back), weights(before))


def test_the_matrix_measures_every_stage_on_every_other(base: str, data: Path, tmp_path: Path) -> None:
    run = flow.train(recipe(base, data), out=tmp_path / "runs")
    results = run.results
    matrix = results["forgetting"]
    assert matrix["models"] == ["base", "1-general", "2-ask", "3-narrow"]
    assert [column["name"] for column in matrix["columns"]] == ["1-general", "2-ask", "3-narrow"]
    assert all(
        figure["n"] and figure["low"] <= figure["value"] <= figure["high"] for row in matrix["loss"] for figure in row
    )
    for number, stage in enumerate(run.stages):  # the model right after a stage, as that stage's own report says
        own = stage.results["metrics"]["test/loss"]["value"]
        assert matrix["loss"][number + 1][number]["value"] == pytest.approx(own, rel=1e-4)
    losses = -np.array([[figure["value"] for figure in row] for row in matrix["loss"]])
    told = matrix["summary"]["loss"]
    assert told["final"]["value"] == pytest.approx(losses[3].mean())
    backward = ((losses[3, 0] - losses[1, 0]) + (losses[3, 1] - losses[2, 1])) / 2
    assert told["backward_transfer"]["value"] == pytest.approx(backward)
    forward = ((losses[1, 1] - losses[0, 1]) + (losses[2, 2] - losses[0, 2])) / 2
    assert told["forward_transfer"]["value"] == pytest.approx(forward)
    forgot = ((losses[1:3, 0].max() - losses[3, 0]) + (losses[1:3, 1].max() - losses[3, 1])) / 2
    assert told["forgetting"]["value"] == pytest.approx(forgot)
    assert run.metrics["stages/loss/forgetting"] == told["forgetting"]["value"]
    page = (run.path / "report.html").read_text()
    assert "stages/2-ask/report.html" in page and "model after" in page
    assert "model after" in (run.path / "report.md").read_text()
    # measured cells are kept
    files = {file: file.stat().st_mtime_ns for file in (run.path / "evaluation" / "matrix").iterdir()}
    flow.train(recipe(base, data), out=tmp_path / "runs")
    assert {file: file.stat().st_mtime_ns for file in files} == files


def test_an_earlier_run_as_a_base_drops_or_keeps_its_head(base: str, data: Path, tmp_path: Path) -> None:
    common = {key: value for key, value in recipe(base, data).items() if key not in ("stages", "name", "data")}
    labels = {**recipe(base, data)["data"], "path": str(data / "labels.csv"), "target": "label"}
    first = flow.train({**common, "name": "first", "objective": "classify", "data": labels}, out=tmp_path, assess=False)
    # two of the three classes: another head, on the same trunk
    rows = (data / "labels.csv").read_text().splitlines()
    (data / "fewer.csv").write_text("\n".join([rows[0], *(row for row in rows[1:] if not row.endswith("blue"))]))
    follow = {**common, "model": {"base": str(first.path)}, "objective": "classify"}
    fewer = {**labels, "path": str(data / "fewer.csv")}
    steps = {**common["train"], "learning_rate": 1e-9, "max_steps": 1}
    second = flow.train({**follow, "name": "second", "data": fewer, "train": steps}, out=tmp_path, assess=False)
    assert second.load().labels == ["green", "red"]
    third = flow.train({**follow, "name": "third", "data": labels, "train": steps}, out=tmp_path, assess=False)
    head, kept = weights(first)["score.weight"], weights(third)["score.weight"]
    torch.testing.assert_close(head, kept, rtol=0, atol=1e-6)
    assert weights(second)["score.weight"].shape[0] == 2
    trunk = "model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(weights(first)[trunk], weights(second)[trunk], rtol=0, atol=1e-6)
    # a folder with a head writes again where the output layer is the input layer
    ask = {**recipe(base, data)["data"], "path": str(data / "ask.jsonl")}
    fourth = flow.train({**follow, "objective": "sft", "name": "fourth", "data": ask}, out=tmp_path, assess=False)
    assert fourth.load().writes


def test_stages_that_cannot_be(base: str, data: Path) -> None:
    def refused(*overrides: str, **more: Any) -> str:
        with pytest.raises(RecipeError) as caught:
            Recipe.load(recipe(base, data, **more), overrides)
        return str(caught.value)

    assert "names a base of its own" in refused("stages.2.model.base=minilm")
    assert "stage 2" in refused("stages.ask.train.epochs=many") and "no stage before it" in refused(
        "stages.1.model.base=previous"
    )
    assert "names no data" in refused(stages=[{"objective": "pretrain"}])
    assert "two stages are called" in refused("stages.2.name=general")
    assert "nothing can be merged" in refused("stages.2.adapter=prompt_tuning")
    assert "list of partial recipes" in refused(stages={"a": 1})


def test_a_stage_inherits_what_stands_beside_and_nothing_else(base: str, data: Path) -> None:
    made = Recipe.load(
        recipe(base, data), ["stages.1.train.max_steps=9", "train.batch_size=8", "stages.ask.adapter.r=2"]
    )
    first, second, third = made.stage_recipes
    assert (first.train.max_steps, second.train.max_steps, third.train.batch_size) == (9, 3, 8)
    assert second.adapter.options.r == 2 and third.adapter.name == "full" and third.data.test is None  # type: ignore[attr-defined]
    assert (first.model.base, second.model.base) == (base, "previous")
    assert second.data.max_length == 64 and Recipe.load(made.model_dump(mode="json")) == made


@pytest.mark.slow
def test_killed_in_the_second_stage_it_goes_on_to_the_same_weights(base: str, data: Path, tmp_path: Path) -> None:
    plan = recipe(base, data)
    plan["train"] |= {"max_steps": 40, "save_every": 5}
    file = tmp_path / "course.yaml"
    file.write_text(json.dumps(plan))
    whole = flow.train(plan, out=tmp_path / "whole", assess=False)
    command = [
        sys.executable,
        "-m",
        "attune.cli",
        "train",
        str(file),
        "--out",
        str(tmp_path / "killed"),
        "--no-evaluate",
    ]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))
    log = tmp_path / "killed" / "course" / "stages" / "2-ask" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) >= 12):
        assert started.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
        time.sleep(0.005)
    started.send_signal(signal.SIGKILL)
    started.wait()
    left = Run(tmp_path / "killed" / "course")
    born = left.stages[0].status["created"]
    assert len(left.stages) == 2 and not (left.stages[1].model_dir / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert left.stages[0].status["created"] == born
    assert same(weights(left), weights(whole))
    with pytest.raises(UsageError, match="has no evaluation yet"):
        _ = left.stages[0].results
    flow.evaluate(left)  # stages that were not measured while they trained are now
    assert left.results["forgetting"]["models"] == ["base", "1-general", "2-ask", "3-narrow"]


def test_whatever_a_stage_reads_is_part_of_its_identity(base: str, data: Path, tmp_path: Path) -> None:
    made = recipe(base, data)
    made["stages"][1]["retain"] = {"replay": {"share": 0.2, "path": str(data / "old.jsonl")}}
    (data / "old.jsonl").write_text((data / "ask.jsonl").read_text())
    first = _key(Recipe.load(made).stage_recipes[1], "before")
    assert first == _key(Recipe.load(made).stage_recipes[1], "before")
    (data / "old.jsonl").write_text((data / "narrow.jsonl").read_text())
    assert first != _key(Recipe.load(made).stage_recipes[1], "before")


def test_a_stage_keeps_the_blocks_that_the_first_one_chose(base: str, data: Path) -> None:
    """They are counted in the base before; the model that a stage left has those alone."""
    first, second, third = Recipe.load(recipe(base, data, model={"base": base, "layers": [1]})).stage_recipes
    assert first.model.layers == [1] and second.model.layers is None and third.model.layers is None


def test_a_rehearsal_shows_every_stage(base: str, data: Path) -> None:
    from attune.flow_data import rehearse

    shown = rehearse(recipe(base, data))
    assert "all tokens but the first supervised" in shown and "ask " in shown and "narrow " in shown
