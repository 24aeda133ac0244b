"""Distillation: equal to torch's and TRL's divergences, mixed as asked, refused where it cannot be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attune.data.batch import Batch, collate
from attune.data.examples import Example
from attune.errors import RecipeError
from attune.model.fused import logp_at, token_logp, top_logp
from attune.model.policy import Scores
from attune.objectives.distill import Distill
from attune.objectives.divergence import divergence
from attune.recipe import Objective

V = 11


def sides(rows: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(rows, V, dtype=torch.float64) * 3, torch.randn(rows, V, dtype=torch.float64, requires_grad=True)


def made(task: str = "generation", labels: list[str] | None = None, **options: Any) -> Distill:
    return Distill(Distill.Config(teacher="t", **options), labels=labels, task=task)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_over_all_tokens_it_is_trls_loss_with_its_gradient(beta: float, temperature: float) -> None:
    from trl.experimental.gkd import GKDTrainer

    teacher, student = sides()
    wanted = GKDTrainer.generalized_jsd_loss(
        student[None], teacher[None], beta=beta, temperature=temperature, reduction="sum"
    )
    (expected,) = torch.autograd.grad(wanted, student)
    ids, logp = top_logp(teacher, V, temperature)
    heat = torch.full((len(student),), temperature, dtype=torch.float64)
    ours = divergence(logp, logp_at(student, ids, heat), beta).sum()
    (gradient,) = torch.autograd.grad(ours, student)
    assert float(ours.detach()) == pytest.approx(float(wanted.detach()), rel=1e-9)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)


def test_the_rest_as_one_bucket_is_kl_over_the_coarser_distributions() -> None:
    teacher, student = sides()
    ids, logp = top_logp(teacher, 4, 1.0)
    p, q = teacher.softmax(-1), student.softmax(-1)

    def coarse(full: torch.Tensor) -> torch.Tensor:
        named = full.gather(-1, ids)
        return torch.cat([named, 1 - named.sum(-1, keepdim=True)], -1)

    wanted = F.kl_div(coarse(q).log(), coarse(p), reduction="sum")
    found = divergence(logp, logp_at(student, ids, torch.ones(len(student))), 0.0).sum()
    whole = F.kl_div(q.log(), p, reduction="sum")
    assert float(found) == pytest.approx(float(wanted), rel=1e-9)
    assert 0 < float(found) <= float(whole)


def test_equal_distributions_are_at_no_distance_even_where_nothing_is_left_over() -> None:
    teacher, _ = sides()
    for k in (3, V):
        ids, logp = top_logp(teacher, k, 1.0)
        student = logp_at(teacher, ids, torch.ones(len(teacher)))
        for beta in (0.0, 0.5, 1.0):
            assert float(divergence(logp, student, beta).abs().max()) < 1e-12


def text_batch(k: int = V, warmth: float = 1.0) -> tuple[Batch, Scores, torch.Tensor, torch.Tensor]:
    teacher, student = sides(6)
    rows = []
    ids, logp = top_logp(teacher, k, warmth)
    for number, part in enumerate((slice(0, 4), slice(4, 6))):
        m = part.stop - part.start
        columns = {
            "teacher_ids": ids[part].numpy(),
            "teacher_logp": logp[part].numpy(),
            "teacher_temperature": np.full(m, warmth),
        }
        weight = np.array([0.0] + [1.5 - number] * m, dtype=np.float32)
        rows.append(Example(np.arange(m + 1, dtype=np.int32), weight, columns=columns))
    batch = collate(rows, layout="padded")
    topk = {"teacher": logp_at(student, batch.tokens["teacher_ids"], batch.tokens["teacher_temperature"])}
    return batch, Scores(logp=token_logp(student, batch.target), topk=topk), teacher, student


def test_text_is_alpha_of_the_teacher_and_the_rest_of_the_data() -> None:
    batch, scores, teacher, student = text_batch(warmth=2.0)
    found = made(alpha=0.7, temperature=2.0).terms(scores, batch)["distill"]
    p, q = (teacher / 2).log_softmax(-1), (student / 2).log_softmax(-1)
    soft = (F.kl_div(q, p, log_target=True, reduction="none").sum(-1) * batch.weight).sum()
    hard = (F.cross_entropy(student, batch.target, reduction="none") * batch.weight).sum()
    assert float(found.detach()) == pytest.approx(float(0.7 * 4 * soft + 0.3 * hard), rel=1e-9)


def test_what_the_student_wrote_itself_has_no_labels_to_learn() -> None:
    batch, scores, _, _ = text_batch()
    objective = made(alpha=0.5)
    batch.tokens["own"] = torch.ones(6)
    own = objective.terms(scores, batch)["distill"]
    assert float(own) == pytest.approx(0.5 * float(made(alpha=1.0).terms(scores, batch)["distill"]), rel=1e-9)
    assert float(objective.metrics(scores, batch)["hard_loss"][1]) == 0


def test_rows_that_the_teacher_did_not_see_have_the_data_s_loss() -> None:
    batch, scores, _, student = text_batch()
    batch.tokens.clear()
    hard = (F.cross_entropy(student, batch.target, reduction="none") * batch.weight).sum()
    assert float(made().terms(scores, batch)["distill"]) == pytest.approx(float(hard), rel=1e-9)


def label_batch(out: torch.Tensor, teacher: torch.Tensor, targets: list[Any]) -> tuple[Scores, Batch]:
    rows = [
        Example(np.array([4, 5], dtype=np.int32), np.array([0, weight], dtype=np.float32), target,
                columns={"teacher_out": teacher[[number]].numpy()})
        for number, (target, weight) in enumerate(zip(targets, (1.0, 0.5, 2.0)))
    ]  # fmt: skip
    return Scores(out=out), collate(rows, layout="padded", scored="here")


def test_classes_are_hintons_loss() -> None:
    torch.manual_seed(1)
    out, teacher = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    objective = made("classification", list("abcd"), alpha=0.6, temperature=3.0)
    scores, batch = label_batch(out, teacher, [0, 3, 1])
    p, q = (teacher / 3).softmax(-1), (out / 3).log_softmax(-1)
    soft = (F.kl_div(q, p, reduction="none").sum(-1) * batch.weight).sum() * 9
    hard = (F.cross_entropy(out, torch.tensor([0, 3, 1]), reduction="none") * batch.weight).sum()
    assert float(objective.terms(scores, batch)["distill"]) == pytest.approx(float(0.6 * soft + 0.4 * hard), rel=1e-9)
    assert objective.head == "sequence" and objective.scored == "here"


def test_several_classes_are_as_many_coins() -> None:
    torch.manual_seed(1)
    out, teacher = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    objective = made("multilabel", list("ab"), alpha=1.0, temperature=1.0)
    scores, batch = label_batch(out, teacher, [np.array([1.0, 0.0], dtype=np.float32)] * 3)
    p = torch.sigmoid(teacher)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    wanted = F.binary_cross_entropy_with_logits(out, p, reduction="none") - entropy
    found = objective.terms(scores, batch)["distill"]
    assert float(found) == pytest.approx(float((wanted.sum(-1) * batch.weight).sum()), rel=1e-9)


def test_numbers_are_pulled_to_the_teachers() -> None:
    out, teacher = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[0.0], [2.0], [1.0]])
    scores, batch = label_batch(out, teacher, [0.5, 0.5, 0.5])
    found = made("regression", alpha=1.0, temperature=5.0).terms(scores, batch)["distill"]
    assert float(found) == pytest.approx(1 * 1 + 0 + 9 * 2)


@pytest.mark.parametrize("mode", ["sequence", "on_policy"])
def test_labels_have_nothing_to_write(mode: str) -> None:
    with pytest.raises(RecipeError, match="does not fit classification") as error:
        made("classification", ["a", "b"], mode=mode)
    assert "logits" in str(error.value.fix)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"teacher": "http://localhost:8000/v1", "mode": "sequence"}, "needs endpoint"),
        ({"teacher": "runs/big", "endpoint": {"model": "m"}}, "must be the server's address"),
        ({"teacher": "http://localhost:8000/v1", "endpoint": {"model": "m"}}, "gives text and no logits"),
        ({"teacher": "t", "alpha": 0.0}, "greater than 0"),
        ({}, "Field required"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Objective.model_validate({"name": "distill", **options})


def test_usual_temperatures() -> None:
    assert made().temperature == 1 and made("classification", ["a", "b"]).temperature == 2
    assert math.isclose(made(temperature=4.0).temperature, 4)
