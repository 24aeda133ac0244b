"""Retention and distillation within several tasks and within stages: each works, or is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune import flow, plugins
from attune.data.batch import collate
from attune.data.examples import Example
from attune.errors import RecipeError
from attune.recipe import Recipe
from attune.runs import Run

WORDS = "red green blue amber violet grey white black olive pink".split()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny models with the starter's tokenizer: two of two and four blocks, and an encoder-decoder."""
    from transformers import (
        AutoTokenizer,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedModel,
        T5Config,
        T5ForConditionalGeneration,
    )

    from attune.model.load import STARTER

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    ends = dict(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)

    def llama(blocks: int) -> PreTrainedModel:
        torch.manual_seed(blocks)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=blocks,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id, **ends,
            )
        )  # fmt: skip

    small = dict(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    config = T5Config(**small, **ends, decoder_start_token_id=tokenizer.pad_token_id)
    made = {"two": llama(2), "four": llama(4), "t5": T5ForConditionalGeneration(config)}
    found = {}
    for name, model in made.items():
        folder = tmp_path_factory.mktemp("bases") / name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        found[name] = str(folder)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)

    def some() -> str:
        return " ".join(rng.choice(WORDS, 6))

    (tmp_path / "old.txt").write_text("\n\n".join(some() for _ in range(12)))
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": some() + "."}) + "\n" for _ in range(80)))
    for name in ("ask", "narrow"):
        rows = [{"prompt": f"{name} {n} {some()}", "completion": WORDS[n % 10]} for n in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("labels", "more"):
        rows = [f'"{some()} {n} {name}",{WORDS[n % 3]}' for n in range(45)]  # type: ignore[misc]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))  # type: ignore[list-item]
    return tmp_path


def recipe(base: str, folder: Path, *paths: str, **more: Any) -> dict[str, Any]:
    """A run of three steps on one file, on several as tasks, or (no path) the common part of a recipe with stages."""
    named: dict[str, Any] = {"max_length": 64, "split": {"validation": 0.2, "test": 0.2, "near": False}}
    if paths:
        named["path"] = str(folder / paths[0]) if len(paths) == 1 else [{"path": str(folder / path)} for path in paths]
    given = {
        "name": "small",
        "model": {"base": base, "dtype": "float32"},
        "adapter": "full",
        "data": named,
        "train": {"max_steps": 3, "batch_size": 4, "learning_rate": 5e-3, "early_stopping": None, "threads": 1},
        "evaluate": {"baselines": [], "bootstrap": 100, "generate_rows": 4, "max_new_tokens": 4, "samples": 4},
        "retain": kept(folder),
    }
    for key, value in more.items():
        merged = isinstance(value, dict) and key in ("data", "model", "train")
        given[key] = {**given[key], **value} if merged else value
    return given


def kept(data: Path, **more: Any) -> dict[str, Any]:
    return {"suites": [{"texts": {"path": str(data / "old.txt"), "title": "kept"}}], **more}


def history(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


ALL = {"limit": "1pt", "replay": 0.3, "kl": 0.1, "l2_sp": 0.01, "ewc": 0.01}


# retention -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_retention_within_several_tasks(bases: dict[str, str], data: Path, tmp_path: Path) -> None:
    made = recipe(bases["two"], data, "ask.jsonl", "narrow.jsonl", objective="sft", retain=kept(data, **ALL))
    run = flow.train(made, out=tmp_path / "runs")
    row = history(run)[-1]
    assert {"kl", "l2_sp", "ewc", "retain/drop", "validation/ask/loss", "validation/narrow/loss"} <= row.keys()
    found = run.results["retained"]
    assert found["limit"] == 1.0 and {point["share"] for point in found["points"]} >= {0.0, 0.5, 1.0}
    manifest = json.loads((run.path / "data" / "manifest.json").read_text())["mix"]
    assert manifest["sizes"] == manifest["per_epoch"]  # what is replayed is no task


@pytest.mark.slow
def test_retention_within_stages_counts_from_the_first_base(bases: dict[str, str], data: Path, tmp_path: Path) -> None:
    two = [{"path": str(data / "ask.jsonl")}, {"path": str(data / "narrow.jsonl")}]
    made = recipe(bases["two"], data, retain=kept(data, **ALL))
    made["stages"] = [
        {"name": "text", "objective": "pretrain", "data": {"path": str(data / "text.jsonl"), "task": "text"}},
        {"name": "ask", "objective": "sft", "data": {"path": str(data / "ask.jsonl")},
         "adapter": {"type": "lora", "r": 2}},
        {"name": "both", "objective": "sft", "data": {"path": two}},
    ]  # fmt: skip
    run = flow.train(made, out=tmp_path / "runs")
    assert run.status["state"] == "done" and run.results["forgetting"]["models"][0] == "base"
    before = [stage.results["retained"]["rows"][0]["before"]["value"] for stage in run.stages]
    assert before == pytest.approx(before[:1] * 3, rel=1e-4)
    for stage in run.stages:
        assert {"kl", "l2_sp", "ewc", "retain/drop"} <= history(stage)[-1].keys()


@pytest.mark.parametrize(
    "adapter",
    [
        {"type": "prompt_tuning", "tokens": 4},
        {"type": "prefix", "tokens": 4},
        {"type": "peft", "method": "fourierft", "options": {"n_frequency": 10}},
        {"type": "peft", "method": "vblora", "options": {"vector_length": 8, "num_vectors": 4}},
    ],
)
def test_what_retention_compares_with_is_the_base(
    adapter: dict[str, Any], bases: dict[str, str], data: Path, tmp_path: Path
) -> None:
    """Not the base behind an untrained prompt or under an update that was drawn at random."""
    from attune.model.build import build
    from attune.model.load import load_model, load_tokenizer
    from attune.model.policy import Policy
    from attune.train.retention import Retention

    asked = kept(data, limit="1pt")
    made = Recipe.load(recipe(bases["two"], data, "ask.jsonl", adapter=adapter, retain=asked))
    tokenizer, plugin = load_tokenizer(made.model), plugins.get("objective", "sft")
    objective: Any = plugin(None)  # type: ignore[call-arg]
    policy = build(made, objective, tokenizer)
    layout = policy.settle()
    policy.eval()
    plain = Policy(load_model(made.model, head="lm"), head="lm").eval()
    plain.settle(layout="padded")
    row = Example(np.arange(5, 15, dtype=np.int32), np.r_[0, np.ones(9)].astype(np.float32))
    batch = collate([row], layout="padded")
    run = Run.create(tmp_path / "run", made.dump())
    retention = Retention(made, run, policy, objective, tokenizer, layout, say=print)
    trains = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    retention.begin(print)
    with torch.no_grad():
        wanted, behind = plain(batch).logp, policy(batch).logp
        with retention._base() as base:
            torch.testing.assert_close(base(batch).logp, wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(policy(batch).logp, behind, rtol=0, atol=0)
    assert {name for name, parameter in policy.named_parameters() if parameter.requires_grad} == trains
    assert float((behind - wanted).abs().max()) > 1e-3  # the prompt says something before it is trained
    assert retention.figures()["retain/kept"] != pytest.approx(0, abs=1e-4)  # and that is told as lost or gained


def test_scores_and_importances_are_those_of_the_chosen_blocks(bases: dict[str, str]) -> None:
    """Two students of one base with as many blocks share names and shapes, not weights."""
    from attune.model.load import origin
    from attune.recipe import Model

    told = {origin(Model(base=bases["four"], layers=layers)) for layers in (None, [0, 1], [0, 3])}
    assert len(told) == 3


def test_replayed_examples_weigh_as_the_mix_says(bases: dict[str, str], data: Path, tmp_path: Path) -> None:
    made = recipe(
        bases["two"], data, "ask.jsonl", "narrow.jsonl", objective="sft", data={"mix": {"loss_per": "example"}},
        retain=kept(data, replay=0.5),
    )  # fmt: skip
    run = flow.train(made, out=tmp_path / "runs", assess=False)
    assert [row["scored"] for row in history(run)] == pytest.approx([4, 4, 4], abs=1e-4)  # four examples a step


def test_only_some_validation_rows_of_every_task_choose(bases: dict[str, str], data: Path) -> None:
    from attune.data.some import some_validation
    from attune.flow_data import prepare_run
    from attune.model.load import load_tokenizer

    made = Recipe.load(recipe(bases["two"], data, "ask.jsonl", "narrow.jsonl", objective="sft"))
    run = Run.create(data / "run", made.dump())
    prepared, _, _ = prepare_run(made, load_tokenizer(made.model), run=run)
    whole = prepared.stores["validation"]
    few = some_validation(prepared, tokens=int(whole.lengths.sum()) // 2)
    assert few is not None and set(few.tasks) == {"ask", "narrow"}
    for name, one in few.tasks.items():
        records = prepared.tasks[name].validation
        assert 0 < len(one.validation) < len(records)
        assert all(record in records for record in one.validation)
    assert len(few.stores["validation"]) == len(few.validation) < len(whole)


def refused(made: dict[str, Any], out: Path) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        flow.train(made, out=out, assess=False, fork=True)
    assert caught.value.fix and not list(out.glob("**/checkpoints"))
    return caught.value


def test_retention_that_cannot_be(bases: dict[str, str], data: Path, tmp_path: Path) -> None:
    two, out = ("ask.jsonl", "narrow.jsonl"), tmp_path / "runs"
    by_task = recipe(
        bases["two"], data, *two, objective="sft", data={"mix": {"batches": "by_task"}}, retain=kept(data, replay=0.3)
    )
    assert "data.mix.batches: by_task" in refused(by_task, out).what
    alone = recipe(
        bases["two"], data, "ask.jsonl", objective="sft", retain=kept(data, kl={"strength": 1.0, "on": "replay"})
    )
    assert "nothing is replayed" in refused(alone, out).what
    old = {"share": 0.3, "path": str(data / "old.txt")}
    pairs = recipe(bases["t5"], data, "ask.jsonl", objective="sft", retain=kept(data, replay=old))
    assert "encoder-decoder" in str(refused(pairs, out).why)
    noisy = recipe(bases["t5"], data, "ask.jsonl", objective="sft", train={"neftune_alpha": 5.0})
    assert "train.neftune_alpha" in refused(noisy, out).what
    staged = recipe(bases["two"], data, retain=kept(data, kl=0.1))
    staged["stages"] = [
        {"name": "ask", "objective": "sft", "data": {"path": str(data / "ask.jsonl")}},
        {"name": "labels", "objective": "classify", "data": {"path": str(data / "labels.csv")}},
    ]
    assert refused(staged, out).what.startswith("stage 2: retain.kl")  # before the first stage is trained


# distillation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "adapter",
    [{"type": "lora", "r": 2}, pytest.param({"type": "prompt_tuning", "tokens": 3}, marks=pytest.mark.slow)],
)
def test_a_run_that_saved_its_adapter_alone_teaches(
    adapter: dict[str, Any], bases: dict[str, str], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    big = recipe(bases["four"], data, "ask.jsonl", objective="sft", adapter=adapter, name="big")
    teacher = flow.train(big, out=out, assess=False)
    small = recipe(
        bases["four"], data, "ask.jsonl", model={"layers": [0, 3]},
        objective={"name": "distill", "teacher": str(teacher.path), "k": 4},
    )  # fmt: skip
    run = flow.train(small, out=out, assess=False)
    assert history(run)[-1]["divergence"] >= 0 and Run(run.path).status["state"] == "done"


def test_a_teacher_of_labels_teaches_no_text(bases: dict[str, str], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    big = recipe(bases["four"], data, "labels.csv", objective="classify", name="big", train={"max_steps": 1})
    teacher = flow.train(big, out=out, assess=False)
    for path, mode in (("ask.jsonl", "logits"), ("ask.jsonl", "sequence")):
        objective = {"name": "distill", "teacher": str(teacher.path), "mode": mode, "k": 2}
        with pytest.raises(RecipeError, match="gives labels, and this student learns text"):
            flow.train(recipe(bases["two"], data, path, objective=objective, name=mode), out=out, assess=False)


def test_distillation_within_several_tasks(bases: dict[str, str], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    objective = {"name": "distill", "teacher": bases["four"], "k": 4}
    made = recipe(bases["two"], data, "ask.jsonl", "narrow.jsonl", objective=objective, retain=kept(data, limit=1))
    run = flow.train(made, out=out, assess=False)
    row = history(run)[-1]
    assert row["divergence"] > 0 and {"validation/ask/loss", "validation/narrow/loss", "retain/drop"} <= row.keys()
    # several tasks under one head
    big = recipe(bases["four"], data, "labels.csv", "more.csv", objective="classify", name="big")
    teacher = flow.train(big, out=out, assess=False)
    objective = {"name": "distill", "teacher": str(teacher.path), "alpha": 1.0}
    run = flow.train(recipe(bases["two"], data, "labels.csv", "more.csv", objective=objective, name="heads"), out=out)
    assert {"test/labels/accuracy", "test/more/accuracy"} <= run.metrics.keys() and history(run)[-1]["divergence"] > 0

    mixed = recipe(bases["two"], data, "ask.jsonl", "labels.csv", objective=objective, name="mixed")
    mixed["objective"] = {"name": "distill", "teacher": bases["four"]}
    assert "tasks of different kinds together" in refused(mixed, tmp_path / "no").what
    written = {"name": "distill", "teacher": bases["four"], "mode": "sequence"}
    two = ("ask.jsonl", "narrow.jsonl")
    assert "one body of data" in refused(recipe(bases["two"], data, *two, objective=written), tmp_path / "no").what
    own = {**written, "mode": "on_policy"}
    by_example = recipe(bases["two"], data, *two, objective=own, data={"mix": {"loss_per": "example"}})
    assert "loss_per: example" in refused(by_example, tmp_path / "no").what


def test_the_teacher_of_every_task_is_asked_about_its_own_rows(
    bases: dict[str, str], data: Path, tmp_path: Path
) -> None:
    """What stands beside each example is what the teacher itself predicts of that example's record."""
    from attune.flow_data import prepare_run
    from attune.model.load import load_tokenizer
    from attune.train.teacher import taught

    big = recipe(bases["four"], data, "labels.csv", "more.csv", objective="classify", name="big")
    teacher = flow.train(big, out=tmp_path, assess=False)
    objective = {"name": "distill", "teacher": str(teacher.path)}
    made = Recipe.load(recipe(bases["two"], data, "labels.csv", "more.csv", objective=objective))
    tokenizer = load_tokenizer(made.model)
    prepared, student, made = prepare_run(made, tokenizer, run=Run.create(tmp_path / "small", made.dump()))
    store = taught(made, prepared, student, tokenizer, cache=tmp_path / "cache").stores["train"]
    said = np.array(teacher.load().predict([record.text for record in prepared.train]).scores)
    found = np.stack([store[number].columns["teacher_out"][0] for number in range(len(store))])
    np.testing.assert_allclose(np.exp(found), said, atol=1e-4)


@pytest.mark.slow
def test_distillation_within_stages(bases: dict[str, str], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    made = recipe(bases["four"], data, model={"layers": [0, 3]}, name="course")
    made["stages"] = [
        {"name": "text", "objective": "pretrain", "data": {"path": str(data / "text.jsonl"), "task": "text"}},
        {"name": "ask", "objective": {"name": "distill", "teacher": bases["four"], "k": 4},
         "data": {"path": str(data / "ask.jsonl")}},
    ]  # fmt: skip
    run = flow.train(made, out=out)
    assert run.load().policy.config.num_hidden_layers == 2  # the base is cut once, not again by every stage
    assert [column["name"] for column in run.results["forgetting"]["columns"]] == ["1-text", "2-ask"]
    assert all(figure is not None for row in run.results["forgetting"]["loss"] for figure in row)
    # a run in stages teaches with its last stage
    objective = {"name": "distill", "teacher": str(run.path), "k": 4}
    small = flow.train(recipe(bases["two"], data, "ask.jsonl", objective=objective), out=out, assess=False)
    assert small.status["state"] == "done"
    # another teacher is another stage
    born = [stage.status["created"] for stage in run.stages]
    again = flow.train(made, [f"stages.ask.objective.teacher={small.path}"], out=out, assess=False)
    now = [stage.status["created"] for stage in again.stages]
    assert now[0] == born[0] and now[1] > born[1]
    teacher = flow.train(
        recipe(bases["two"], data, "narrow.jsonl", name="small", objective="sft"), out=out / "x", assess=False
    )
    small.path.rename(out / "gone")
    teacher.path.rename(small.path)  # the same name, other weights
    third = flow.train(made, [f"stages.ask.objective.teacher={small.path}"], out=out, assess=False)
    assert third.stages[1].status["created"] > now[1]

    nobody = recipe(bases["two"], data)
    nobody["stages"] = [{**stage, "objective": {"name": "distill", "teacher": "no/where/at-all"}} if number else stage
                        for number, stage in enumerate(made["stages"])]  # fmt: skip
    assert refused(nobody, tmp_path / "no").what.startswith("stage 2: objective.teacher")
    from attune.distill import distill

    with pytest.raises(RecipeError, match="this recipe has stages"):
        distill(made, out=tmp_path / "no")


@pytest.mark.slow
def test_the_student_of_several_tasks_is_compared_with_one_that_learns_the_answers(
    bases: dict[str, str], data: Path, tmp_path: Path
) -> None:
    from attune.distill import distill

    objective = {"name": "distill", "teacher": bases["four"], "k": 4}
    made = recipe(bases["two"], data, "ask.jsonl", "narrow.jsonl", objective=objective)
    run, rows = distill(made, out=tmp_path / "runs")
    assert [row["system"] for row in rows] == ["student", "same, hard labels"]
    assert Recipe.load(tmp_path / "runs" / f"{run.path.name}-hard" / "recipe.yaml").objective.name == "sft"
