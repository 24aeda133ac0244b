"""Several tasks through a whole run: their shares, their own metrics, the mean over them, and each alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune import flow
from attune.durable import write_json
from attune.errors import RecipeError, UsageError
from attune.evaluate.compare import compare
from attune.evaluate.measure import metrics_for
from attune.evaluate.tasks import TaskMean
from attune.flow_transfer import transfer
from attune.runs import Run

WORDS = "red green blue amber violet grey white black olive pink".split()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A classification, a tagging and a generation task for a tiny Llama with the starter's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from attune.model.load import STARTER

    folder = tmp_path_factory.mktemp("tasks")
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    rng = np.random.default_rng(0)

    def some(n: int = 5) -> list[str]:
        return list(rng.choice(WORDS, n))

    rows = [f"{' '.join(some())} {number},{WORDS[number % 3]}" for number in range(90)]
    (folder / "moods.csv").write_text("\n".join(["text,label", *rows]))
    lines = []
    for number in range(50):
        lines += [f"{word}\t{'B-colour' if word in WORDS[:2] else 'O'}" for word in [*some(), f"n{number}"]] + [""]
    (folder / "colours.conll").write_text("\n".join(lines) + "\n")
    answers = [{"prompt": f"say {number} {' '.join(some())}", "completion": " ".join(some(3))} for number in range(40)]
    (folder / "say.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    return {
        "name": "three",
        "model": {"base": str(folder / "base")},
        "adapter": "full",
        "data": {
            "path": [
                {"name": "moods", "path": str(folder / "moods.csv")},
                {"name": "colours", "path": str(folder / "colours.conll")},
                {"name": "say", "path": str(folder / "say.jsonl"), "weight": 2, "instruction": "Speak."},
            ],
            "mix": {"temperature": None, "loss_per": "example"},
            "split": {"near": False},
        },
        "train": {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-3, "early_stopping": None, "threads": 1},
        "evaluate": {"baselines": ["majority", "tfidf"], "bootstrap": 100, "generate_rows": 6, "max_new_tokens": 6},
    }


@pytest.fixture(scope="module")
def run(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return flow.train(recipe, out=tmp_path_factory.mktemp("runs"))


def test_every_task_has_its_own_metrics_and_curve(run: Run) -> None:
    results = run.results
    assert [(task["name"], task["kind"], task["primary"]) for task in results["tasks"]] == [
        ("moods", "classification", "f1_macro"), ("colours", "tagging", "span_f1"), ("say", "generation", "rougeL"),
    ]  # fmt: skip
    for key in ("moods/accuracy", "moods/f1_macro", "colours/span_f1", "say/rougeL", "say/loss", "task_mean"):
        figure = results["metrics"][f"test/{key}"]
        assert figure["n"] and figure["low"] <= figure["value"] <= figure["high"], key
    for name in ("moods", "colours", "say"):
        assert f"validation/{name}/loss" in results["metrics"]
    row = next(row for row in run.history() if "validation/loss" in row)
    losses = [row[f"validation/{name}/loss"] for name in ("moods", "colours", "say")]
    assert row["validation/loss"] == pytest.approx(np.mean(losses)), "every task counts the same"
    (moods, *_) = results["tasks"]
    systems = [system["system"] for system in moods["systems"]]
    assert systems == ["tuned", "tuned_generated", "majority", "tfidf"]
    assert moods["systems"][0]["metrics"]["invalid_rate"]["value"] == 0, "the likeliest label is always one"
    assert moods["systems"][1]["metrics"]["invalid_rate"]["value"] > 0.5, "an untrained model writes no label"
    page = (run.path / "report.html").read_text()
    assert all(f"<h3>{name}</h3>" in page for name in ("moods", "colours", "say"))
    assert "## Task say" in (run.path / "report.md").read_text()


def test_the_recipe_keeps_what_was_decided(run: Run) -> None:
    from attune.recipe import Recipe

    frozen = Recipe.load(run.path / "recipe.yaml")
    moods, colours, say = frozen.data.sources
    assert (moods.task, colours.task, say.task) == ("classification", "tagging", "generation")
    assert moods.instruction is not None and "blue, green, red" in moods.instruction and say.instruction == "Speak."
    preview = (run.path / "data" / "preview.txt").read_text()
    assert "Speak.\n\nsay" in preview and "⟦" in preview
    mix = json.loads((run.path / "data" / "manifest.json").read_text())["mix"]
    total = sum(mix["per_epoch"].values())
    assert mix["per_epoch"]["say"] == pytest.approx(total / 2, abs=1)


def test_the_mean_is_that_of_the_tasks(run: Run) -> None:
    results = run.results
    mains = [task["systems"][0]["metrics"][task["primary"]]["value"] for task in results["tasks"]]
    assert results["metrics"]["test/task_mean"]["value"] == pytest.approx(np.mean(mains))
    found = compare(run, run)
    assert found["metric"] == "task_mean" and found["difference"] == 0


def test_task_mean_reads_each_tasks_own_columns() -> None:
    spans, right = metrics_for("tagging", ["span_f1"])[0], metrics_for("classification", ["accuracy"])[0]
    tables = [np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]), np.array([[1.0], [0.0], [0.0], [0.0]])]
    mean = TaskMean([spans, right])
    assert mean.value(TaskMean.joined(tables)) == pytest.approx((spans.value(tables[0]) + 0.25) / 2)
    assert np.isnan(mean.value(TaskMean.joined(tables)[:2])), "no row of the second task: no mean"


def test_alone_against_together(recipe: dict[str, Any], run: Run) -> None:
    done = transfer(recipe, out=run.path.parent)
    assert done.path == run.path
    rows = done.results["transfer"]
    assert [row["task"] for row in rows] == ["moods", "colours", "say"]
    assert {row["updates"]["together"] for row in rows} == {4}
    assert sum(row["updates"]["alone"] for row in rows) == pytest.approx(4, abs=2), "as many examples as in the mix"
    for row in rows:
        # the same passes over its own data, to within the step that cannot be cut
        step = 8 / json.loads((run.path / "data/manifest.json").read_text())["mix"]["sizes"][row["task"]]
        assert row["passes"]["alone"] == pytest.approx(row["passes"]["together"], abs=step)
        figure = row["figures"][row["primary"]]
        told = figure["together"]["value"] - figure["alone"]["value"]
        assert figure["difference"]["difference"] == pytest.approx(told)
    page = (run.path / "report.html").read_text()
    assert "Alone against together" in page and "passes over its own training rows" in page
    assert "updates, alone / together" in (run.path / "report.md").read_text()
    born = [Run(path.parent).status["created"] for path in sorted(run.path.glob("alone/*/status.json"))]
    transfer(recipe, out=run.path.parent)
    assert born == [Run(path.parent).status["created"] for path in sorted(run.path.glob("alone/*/status.json"))]


def test_measured_again_a_run_keeps_what_other_commands_found_and_answers_further_suites(
    recipe: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    rows = transfer(recipe, out=run.path.parent).results["transfer"]
    quality = {"value": 0.5, "low": 0.4, "high": 0.6}
    side = {"system": "student", "metric": "task_mean", "quality": quality, "versus": None, "why_not": None,
            "parameters": 1e6, "megabytes": 4.0, "ms_median": 3.0, "ms_p95": 4.0, "per_second": 9.0,
            "unit": "requests", "n": 5}  # fmt: skip
    write_json(run.path / "evaluation" / "results.json", {**run.results, "distilled": [side]})
    (tmp_path / "more.csv").write_text("text,label\nred red one,red\ngreen blue two,green\nblue blue three,blue\n")
    before = run.results
    flow.evaluate(run, suites=[str(tmp_path / "more.csv"), "completions"])
    after = run.results
    assert {row["suite"] for row in after["suites"]} == {"more", "completions"}
    assert after["metrics"]["suite/more/accuracy"]["n"] == 3 and after["systems"] == before["systems"]
    flow.evaluate(run, suites=["completions"])
    assert [row["suite"] for row in run.results["suites"]] == ["more", "completions"], "asked again, not twice there"
    flow.evaluate(run)
    assert run.results["transfer"] == rows and run.results["distilled"] == [side]
    assert len(run.results["suites"]) == 2 and "Distilled" in (run.path / "report.html").read_text()
    assert run.results["metrics"]["test/task_mean"] == before["metrics"]["test/task_mean"]


def test_a_text_held_out_for_one_task_trains_no_other(recipe: dict[str, Any], tmp_path: Path) -> None:
    rows = Path(recipe["data"]["path"][0]["path"]).read_text().splitlines()
    (tmp_path / "other.csv").write_text(
        "\n".join(["text,label", *(f"{row.rsplit(',', 1)[0]},x{n % 2}" for n, row in enumerate(rows[1:]))])
    )
    two = [recipe["data"]["path"][0], {"name": "other", "path": str(tmp_path / "other.csv")}]
    data = {**recipe["data"], "path": two}
    made = flow.train({**recipe, "data": data, "name": "leak"}, out=tmp_path, assess=False)
    excluded = json.loads((made.path / "data" / "manifest.json").read_text())["excluded"]
    assert excluded["stands in held-out rows of another task"] > 0


def test_what_cannot_be_is_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tasks of different kinds"):
        flow.train({**recipe, "objective": "classify", "name": "heads"}, out=tmp_path)
    with pytest.raises(RecipeError, match="nothing to hold against"):
        transfer({**recipe, "data": {**recipe["data"], "path": recipe["data"]["path"][:1]}}, out=tmp_path)
    with pytest.raises((RecipeError, UsageError)):
        transfer({**recipe, "data": {"path": recipe["data"]["path"][0]["path"]}}, out=tmp_path)
