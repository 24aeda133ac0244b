"""How far one distribution is from another, by position: what distillation and staying near the base minimise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["divergence"]

FLOOR = -100.0
"""Log-probabilities below this count as this, so that what neither side can say adds 0 and not infinity."""


def divergence(teacher: Tensor, student: Tensor, beta: float = 0.0) -> Tensor:
    """Divergence of the student from the teacher, over the last axis.

    `beta` 0 is KL(teacher || student), 1 is KL(student || teacher), between them the generalised Jensen-Shannon
    divergence. Over the k likeliest tokens and the rest as one bucket it is a lower bound of that over all tokens.
    Shapes: both [..., K] log-probabilities that sum to one; returns [...].
    Units: nats.
    Source: Agarwal et al. 2023 (arXiv:2306.13649), equation 1.
    Checked: torch's kl_div and TRL's `generalized_jsd_loss`, tests/objectives/test_distill.py.
    """
    import math

    import torch

    teacher, student = teacher.to(student.dtype).clamp(min=FLOOR), student.clamp(min=FLOOR)
    if beta == 0:
        return (teacher.exp() * (teacher - student)).sum(-1)
    if beta == 1:
        return (student.exp() * (student - teacher)).sum(-1)
    middle = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    of_teacher = (teacher.exp() * (teacher - middle)).sum(-1)
    of_student = (student.exp() * (student - middle)).sum(-1)
    return beta * of_teacher + (1 - beta) * of_student
