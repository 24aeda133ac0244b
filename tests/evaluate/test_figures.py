"""Which figures may be asked for, which one training watches, and what happens where one is undefined."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import attune
from attune.errors import RecipeError
from attune.evaluate import predict
from attune.evaluate.evaluate import _samples
from attune.evaluate.measure import check_figures, watched
from attune.evaluate.predictions import Predictions
from attune.recipe import Recipe
from attune.records import Message, Record


def recipe(**sections: Any) -> Recipe:
    return Recipe.load({"data": {"path": "rows.jsonl"}, **sections})


def test_a_model_that_writes_is_watched_by_its_loss() -> None:
    """Its validation figures hold nothing else: any other name would choose no checkpoint and never stop."""
    assert watched(recipe(), "classification", "lm") == ("loss", False)
    assert watched(recipe(evaluate={"primary": "token_f1"}), "generation", "lm") == ("loss", False)
    assert watched(recipe(), "classification", "sequence") == ("f1_macro", True)
    assert watched(recipe(evaluate={"primary": "log_loss"}), "classification", "sequence") == ("log_loss", False)
    early = recipe(evaluate={"primary": "accuracy"}, train={"early_stopping": {"metric": "brier"}})
    assert watched(early, "classification", "sequence") == ("brier", False)


@pytest.mark.parametrize(
    ("asked", "tasks", "head", "key"),
    [
        ({"evaluate": {"primary": "f1_macro"}}, {"regression"}, "sequence", "evaluate.primary"),
        ({"evaluate": {"metrics": ["mse", "accuracy"]}}, {"regression"}, "sequence", "evaluate.metrics: accuracy"),
        ({"train": {"early_stopping": {"metric": "span_f1"}}}, {"text"}, "lm", "train.early_stopping.metric"),
        ({"train": {"early_stopping": {"metric": "rougeL"}}}, {"generation"}, "lm", "answers are written after"),
    ],
)
def test_figures_that_cannot_be_computed_are_refused(asked: Any, tasks: set[str], head: str, key: str) -> None:
    with pytest.raises(RecipeError) as refused:
        check_figures(recipe(**asked), tasks, head)
    assert key in str(refused.value) and refused.value.fix


def test_figures_of_one_of_several_tasks_are_allowed() -> None:
    check_figures(recipe(evaluate={"primary": "f1_macro"}), {"classification", "generation"}, "lm")
    check_figures(recipe(train={"early_stopping": {"metric": "loss"}}), {"classification"}, "sequence")


def test_the_order_of_several_labels_does_not_make_a_sample_wrong() -> None:
    record = Record("a", (Message("user", "x"),), label=("zeta", "alpha"))
    prepared: Any = SimpleNamespace(task="multilabel")
    systems = [Predictions("tuned", [("alpha", "zeta")]), Predictions("majority", [("alpha",)])]
    (sample,) = _samples(1, prepared, systems, [record])
    assert sample["correct"] is True and sample["base_correct"] is False


def test_a_row_left_out_for_its_length_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be answered with the first class."""
    rows = {"example": np.array([0, 1]), "out": np.array([[0.0, 3.0], [0.0, 3.0]]), "weight": np.ones(2)}
    monkeypatch.setattr(predict, "score_store", lambda *args, **how: ({"loss": 1.0}, rows))
    objective: Any = SimpleNamespace(labels=["no", "yes"], head="sequence", task="classification")
    store: Any = SimpleNamespace(records=np.array([0, 2]))
    records = [Record(str(number), (Message("user", "x"),), label="yes") for number in range(3)]
    nothing: Any = None
    found, _ = predict.predict_labels(nothing, objective, store, records, nothing, layout="padded", pad_id=0)
    assert found.outputs == ["yes", None, "yes"]


@pytest.mark.slow
def test_an_undefined_main_figure_and_a_baseline_that_does_not_fit_end_in_a_report(tmp_path: Path) -> None:
    """Answers against one and the same number have no correlation."""
    for name, scores in (("train", [0.1, 0.5, 0.9] * 8), ("test", [0.5] * 6)):
        rows = [{"text": f"parcel number {n} is late", "score": score} for n, score in enumerate(scores)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = attune.train(
        {
            "name": "undefined",
            "adapter": "full",
            "data": {
                "path": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "test.jsonl"), "target": "score",
                "task": "regression", "split": {"validation": 0, "near": False}, "leakage": "report",
            },
            "train": {"max_steps": 1},
            "evaluate": {"primary": "pearson", "baselines": ["majority", "lexicon"], "bootstrap": 100},
            "retain": {"suites": []},
        },
        out=tmp_path / "runs",
    )  # fmt: skip
    assert run.metrics["test/pearson"] is None
    assert [row["system"] for row in run.results["systems"]] == ["tuned", "majority"]
    assert (run.path / "report.html").exists()
