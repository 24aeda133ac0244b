"""Forgetting, end to end on the starter: measured before and after, and held within a limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attune import flow
from attune.evaluate.report import write_report
from attune.evaluate.retained import ask, halves, lost, retained_suites, subject_for
from attune.evaluate.suites.base import change
from attune.model.language import language_model
from attune.model.load import load_model, load_tokenizer
from attune.model.policy import Policy
from attune.recipe import Recipe

ROWS = [
    {"prompt": f"Say {word} backwards.", "completion": f"{word[::-1]} {word[::-1]} {word[::-1]}"}
    for word in ("lantern", "copper", "window", "harvest", "pencil", "garden", "silver", "button", "meadow", "candle")
]


def recipe(folder: Path, **sections: Any) -> Recipe:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    texts = "\n\n".join(f"The {word['prompt'].split()[1]} stood by the old road." for word in ROWS[:6])
    (folder / "kept.txt").write_text(texts)
    return Recipe.load(
        {
            "name": "held",
            "model": {"dtype": "float32"},
            "objective": "sft",
            "data": {"path": str(folder / "rows.jsonl"), "split": {"validation": 0.2, "test": 0.2, "near": False}},
            "train": {"batch_size": 3, "learning_rate": 2e-3, "threads": 1, "warmup_ratio": 0.0},
            "evaluate": {"baselines": [], "generate_rows": 1, "max_new_tokens": 2, "bootstrap": 100, "samples": 0},
            **sections,
        }
    )


def kept(folder: Path) -> dict[str, Any]:
    return {"texts": {"path": str(folder / "kept.txt"), "title": "kept"}}


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_a_limit_is_kept_and_told(tmp_path: Path, adapter: str) -> None:
    asked = {"limit": "1pt", "suites": [kept(tmp_path)], "replay": 0.25, "kl": 0.1, "l2_sp": 0.01, "ewc": 0.01}
    made = recipe(tmp_path, adapter=adapter, retain=asked)
    run = flow.train(made.replace({"train.max_steps": 4, "train.eval_every": 2}), out=tmp_path / "runs")
    results = json.loads((run.path / "evaluation" / "results.json").read_text())
    found = results["retained"]
    (row,) = found["rows"]
    assert (
        row["n"] == 3
        and row["relative"]
        and found["limit"] == 1.0
        and found["inside"] == (True if row["points"] <= 1 else False if row["low"] > 1 else None)
    )
    shares = {point["share"] for point in found["points"]}
    assert shares >= {0.0, 0.5, 1.0} and found["kept"]["drop"] <= 1.0 and found["why"]
    base = next(point for point in found["points"] if point["share"] == 0.0)
    assert base["drop"] == pytest.approx(0, abs=1e-6)
    history = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert {"kl", "l2_sp", "ewc", "sft"} <= history[-1].keys() and "retain/drop" in history[-1]
    assert results["course"]["name"] and "train_sample/loss" in history[-1]
    page = (run.path / "report.html").read_text()
    assert "What was forgotten" in page and "What was forgotten" in (run.path / "report.md").read_text()
    write_report(results, tmp_path)


@pytest.mark.slow
def test_stages_count_what_they_lose_from_the_first_base(tmp_path: Path) -> None:
    one = recipe(tmp_path, adapter="full", retain={"limit": "30pt", "suites": [kept(tmp_path)]})
    common = one.model_dump(mode="json", exclude={"stages", "name", "data", "objective"}, exclude_defaults=True)
    common["retain"] = {"limit": "30pt", "suites": [kept(tmp_path)]}
    common["train"] |= {"max_steps": 3, "learning_rate": 5e-3}
    data = one.model_dump(mode="json")["data"]
    stages = [{"name": name, "objective": "sft", "data": data} for name in ("first", "second")]
    run = flow.train({**common, "name": "chain", "stages": stages}, out=tmp_path / "runs")
    first, second = (stage.results["retained"] for stage in run.stages)
    assert (first["limit"], second["limit"]) == (15.0, 30.0)
    assert first["rows"][0]["before"]["value"] == pytest.approx(second["rows"][0]["before"]["value"], rel=1e-6)
    assert "Counted from starter" in second["note"] and "Counted from" not in first["note"]
    # where the second stage starts, what the first one kept is lost already (but for the base, written in bfloat16)
    start = next(point for point in second["points"] if point["share"] == 0.0)
    assert start["drop"] == pytest.approx(first["kept"]["drop"], rel=0.05) and start["drop"] > 1


@pytest.mark.slow
def test_by_default_it_is_measured_and_nothing_else_happens(tmp_path: Path) -> None:
    made = recipe(tmp_path, adapter="lora").replace({"train.max_steps": 1})
    run = flow.train(made, out=tmp_path / "runs")
    found = json.loads((run.path / "evaluation" / "results.json").read_text())["retained"]
    assert [(row["suite"], row["n"]) for row in found["rows"]] == [("texts", 199), ("completions", 100)]
    assert found["inside"] is None and not found["points"] and not found["why"]
    assert {"retain/texts", "retain/completions"} <= run.metrics.keys()


def test_what_is_lost_is_in_points(tmp_path: Path) -> None:
    made = recipe(tmp_path, retain={"suites": [kept(tmp_path), "completions"]})
    tokenizer = load_tokenizer(made.model)
    policy = Policy(load_model(made.model, head="lm"), head="lm").eval()
    subject = subject_for(policy, tokenizer, made, policy.settle())
    before = ask(retained_suites(made), subject)
    same = lost(before["kept"], before["kept"], n=100)
    assert same.points == same.low == same.high == 0 and same.relative
    with torch.no_grad():
        for value in policy.parameters():
            value.mul_(0.8)
    after = ask(retained_suites(made), subject)
    worse = lost(before["kept"], after["kept"], n=200)
    one, two = before["kept"].figures["loss"].value, after["kept"].figures["loss"].value
    assert worse.points == pytest.approx(100 * (two / one - 1)) and worse.low <= worse.points <= worse.high
    assert worse.counted == worse.high
    share = lost(before["completions"], after["completions"], n=200)
    right = [one["completions"].figures["probability"].value for one in (before, after)]
    assert share.points == pytest.approx(100 * (right[0] - right[1])) and share.counted == share.points
    assert change(before["completions"], after["completions"]).p <= 1


def test_halves_share_no_question(tmp_path: Path) -> None:
    first, second = halves(retained_suites(recipe(tmp_path)))
    for (_, one), (_, two) in zip(first, second):
        ids = [{record.id for record in part.records} for part in (one, two)]
        assert not ids[0] & ids[1] and abs(len(ids[0]) - len(ids[1])) <= 1
    assert sum(len(part.records) for _, part in (*first, *second)) == 299


def test_a_label_models_layers_speak_through_the_bases_head(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    tokenizer = load_tokenizer(made.model)
    labels = Policy(
        load_model(made.model, head="sequence", labels=["a", "b"], task="classification", pad_token_id=3),
        head="sequence",
    ).eval()
    suites = retained_suites(recipe(tmp_path, retain={"suites": [kept(tmp_path)]}))
    layout = labels.settle()
    view = language_model(labels, made)
    base = Policy(load_model(made.model, head="lm"), head="lm").eval()
    plain = ask(suites, subject_for(base, tokenizer, made, base.settle()))["kept"]
    seen = ask(suites, subject_for(view, tokenizer, made, layout))["kept"]
    assert seen.value.value == pytest.approx(plain.value.value, rel=1e-4)  # nothing was trained yet
    with torch.no_grad():
        labels.trunk.layers[0].mlp.down_proj.weight.mul_(3)
    moved = ask(suites, subject_for(view, tokenizer, made, layout))["kept"]
    assert abs(moved.value.value - plain.value.value) > 1e-3  # it follows the trained layers


def test_an_encoder_says_why_it_is_not_measured(tmp_path: Path) -> None:
    import transformers

    from attune.model.language import no_language_model

    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    made = recipe(tmp_path, model={"base": str(tmp_path / "bert")})
    assert "encoder (bert)" in str(no_language_model(made))
