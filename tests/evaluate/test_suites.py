"""Suites: what is asked, how it is judged, and what a recipe makes of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from attune import flow
from attune.data.render import Renderer
from attune.errors import DataError, RecipeError
from attune.evaluate.report import write_report
from attune.evaluate.suites.base import Subject, change, measure
from attune.evaluate.suites.compared import load_suites
from attune.model.load import load_model, load_tokenizer
from attune.model.policy import Policy
from attune.plugins import get
from attune.recipe import Recipe

PAIRS = [
    {"prompt": f"What is {number} and {number}?", "completion": f"It is {2 * number}, said the {kind}."}
    for number, kind in enumerate(["baker", "miller", "smith", "farmer", "teacher", "sailor", "driver", "writer"] * 3)
]
TEXTS = ["The old bridge was closed in the spring.", "Nobody knows why the lights went out that evening."]


def rows_file(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def subject() -> Subject:
    recipe = Recipe.load({"data": {"path": "unused.csv"}, "evaluate": {"max_new_tokens": 6, "bootstrap": 100}})
    tokenizer = load_tokenizer(recipe.model)
    policy = Policy(load_model(recipe.model, head="lm"), head="lm").eval()
    layout = policy.settle()
    return Subject(policy, tokenizer, Renderer(tokenizer, truncate="left"), layout, recipe.evaluate)


def suite_of(**options: Any) -> Any:
    plugin: Any = get("suite", "rows")
    return plugin(plugin.Config(**options))


def test_answers_are_written_and_their_references_scored(subject: Subject, tmp_path: Path) -> None:
    suite = suite_of(path=rows_file(tmp_path / "sums.jsonl", PAIRS))
    questions = suite.load()
    assert (suite.label, questions.task, len(questions.records)) == ("sums", "generation", 24)
    assert suite.why_not(questions, subject) is None
    found = measure(suite, questions, subject)
    sequences = []
    for record in questions.records:
        (example,) = subject.renderer.sft(record)
        prompt = subject.renderer.prompt_ids(record)
        stop = int(example.weight.nonzero()[0].max()) + 1
        sequences.append((prompt, example.ids[len(prompt) : stop].tolist()))
    direct = subject.engine.logp(sequences)
    assert found.figures["loss"].value == pytest.approx(-direct[:, 0].sum() / direct[:, 1].sum(), rel=1e-4)
    assert found.predictions is not None and len(found.predictions.stopped or []) == 24
    assert {"rougeL", "stop_rate"} <= found.figures.keys() and found.value.n == 24
    again = change(found, found)
    assert (again.difference, again.p) == (0, 1)


def test_likelihood_alone_writes_nothing(subject: Subject, tmp_path: Path) -> None:
    suite = suite_of(path=rows_file(tmp_path / "sums.jsonl", PAIRS), metrics=["loss"], primary="loss", limit=5)
    questions = suite.load()
    assert len(questions.records) == 5
    found = measure(suite, questions, subject)
    assert found.predictions is not None and found.predictions.raw is None and list(found.figures) == ["loss"]


def test_text_is_measured_as_the_model_reads_it(subject: Subject, tmp_path: Path) -> None:
    suite = suite_of(path=rows_file(tmp_path / "news.jsonl", [{"text": text} for text in TEXTS]), task="text")
    found = measure(suite, suite.load(), subject)
    tokenizer, losses, count = subject.tokenizer, 0.0, 0
    ids: list[int] = []
    for text in TEXTS:  # documents are joined, each with the end-of-text token
        body = [*subject.renderer.encoder.frame[0], *subject.renderer.text_ids(text), tokenizer.eos_token_id]
        ids += body
    with torch.no_grad():
        logits = subject.policy.model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    scores = -logits.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    first = len(subject.renderer.encoder.frame[0]) + len(subject.renderer.text_ids(TEXTS[0])) + 1
    keep = [at for at in range(len(scores)) if at + 1 != first]  # nothing predicts the start of the second document
    losses, count = float(scores[keep].sum()), len(keep)
    assert found.figures["loss"].value == pytest.approx(losses / count, rel=1e-4)
    assert found.figures["perplexity"].value == pytest.approx(math.exp(losses / count), rel=1e-3)


def test_labels_are_asked_for_by_prompting(subject: Subject, tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text in TEXTS * 3 for label in ("news", "weather")]
    suite = suite_of(path=rows_file(tmp_path / "kinds.jsonl", rows), target="label", title="kinds of text")
    questions = suite.load()
    assert suite.label == "kinds of text" and questions.task == "classification"
    found = measure(suite, questions, subject)
    assert found.predictions is not None and set(found.predictions.outputs) <= {"news", "weather"}
    assert 0 <= found.figures["accuracy"].value <= 1


def test_a_head_is_asked_only_what_it_knows(subject: Subject, tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text in TEXTS * 3 for label in ("news", "weather")]
    suite = suite_of(path=rows_file(tmp_path / "kinds.jsonl", rows), target="label")
    questions = suite.load()
    plugin: Any = get("objective", "classify")
    headed = Subject(
        Policy(subject.policy.model, head="sequence"), subject.tokenizer, subject.renderer, "padded", subject.settings,
        objective=plugin(None, labels=["news", "sport"], task="classification"),
    )  # fmt: skip
    assert "weather" in (suite.why_not(questions, headed) or "")
    written = suite_of(path=rows_file(tmp_path / "sums.jsonl", PAIRS))
    assert "writes no text" in (written.why_not(written.load(), headed) or "")


def test_a_recipe_names_files_and_suites(tmp_path: Path) -> None:
    file = rows_file(tmp_path / "sums.jsonl", PAIRS)
    recipe = Recipe.load(
        {"data": {"path": "x.csv"}, "evaluate": {"suites": [file, {"rows": {"path": file, "limit": 3}}]}}
    )
    assert [choice.options.path for choice in recipe.evaluate.suites] == [file, file]
    assert Recipe.load(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(RecipeError, match="called 'sums'"):
        load_suites(recipe.evaluate.suites)
    with pytest.raises(RecipeError, match="rows"):
        Recipe.load({"data": {"path": "x.csv"}, "evaluate": {"suites": ["row"]}})


def test_a_bad_file_is_told_before_training(tmp_path: Path) -> None:
    data = rows_file(tmp_path / "train.jsonl", PAIRS)
    bad = rows_file(tmp_path / "bad.jsonl", [{"prompt": "a", "completion": 3}])
    recipe = Recipe.load({"data": {"path": data}, "evaluate": {"suites": [bad]}})
    with pytest.raises(DataError, match="bad.jsonl:1"):
        flow.train(recipe, out=tmp_path / "runs")


@pytest.mark.slow
def test_a_run_reports_its_suites(tmp_path: Path) -> None:
    data = rows_file(tmp_path / "train.jsonl", PAIRS)
    news = rows_file(tmp_path / "news.jsonl", [{"text": text} for text in TEXTS])
    run = flow.train(
        {
            "name": "suites", "adapter": "full", "data": {"path": data, "split": {"validation": 0, "test": 0.3}},
            "train": {"max_steps": 2, "batch_size": 4, "learning_rate": 1e-3},
            "evaluate": {
                "baselines": [], "bootstrap": 100, "max_new_tokens": 4,
                "suites": [{"rows": {"path": data, "title": "seen", "metrics": ["loss"]}},
                           {"rows": {"path": news, "task": "text"}}],
            },
        },
        out=tmp_path / "runs",
    )  # fmt: skip
    seen, text = run.results["suites"]
    assert (seen["suite"], seen["primary"], text["suite"], text["primary"]) == ("seen", "loss", "news", "loss")
    assert "also stand in the training data" in seen["note"] and not text["note"]
    assert seen["tuned"]["loss"]["value"] < seen["base"]["loss"]["value"]
    pair = seen["change"]
    assert pair["difference"] == pytest.approx(seen["tuned"]["loss"]["value"] - seen["base"]["loss"]["value"])
    assert run.results["metrics"]["suite/news/perplexity"]["value"] == text["tuned"]["perplexity"]["value"]
    write_report(run.results, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert '<h2 id="suites">' in page and "## Suites" in (tmp_path / "report.md").read_text()
