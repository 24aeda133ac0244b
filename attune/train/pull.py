"""Pulls towards the base: L2-SP and elastic weight consolidation, as gradients added to a step's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from attune.train.optim import Masters

__all__ = ["Pull", "Pair", "low_rank_pairs"]

LORA = re.compile(r"(.*)\.lora_(A|B)\.(\w+)\.weight")


@dataclass(frozen=True)
class Pair:
    """A low-rank update: the weight `layer` of the base changes by scale * (B A - B0 A0)."""

    layer: str
    a: str
    b: str
    scale: float


def low_rank_pairs(model: torch.nn.Module) -> list[Pair]:
    """The plain low-rank updates of a PEFT model that train, by parameter name; those of DoRA are none."""
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    modules = dict(model.named_modules())
    found = []
    for name in sorted(names):
        match = LORA.fullmatch(name)
        if match is None or match[2] != "A":
            continue
        layer, kind = match[1], match[3]
        b = f"{layer}.lora_B.{kind}.weight"
        if b in names and f"{layer}.lora_magnitude_vector.{kind}.weight" not in names:
            found.append(Pair(f"{layer}.base_layer.weight", name, b, float(modules[layer].scaling[kind])))  # type: ignore[index]
    return found


class Pull:
    """l2_sp / 2 * sum (w - w0)^2 + ewc / 2 * sum F (w - w0)^2, over the trained weights in float32.

    Under low-rank updates w is the base's weight with the update merged in, so that the pull is the same whichever way
    the weights are held. Weights of a new head, which the base does not have, are left alone. The gradient is exact and
    is added once a step, after the micro-batches: how a step is cut does not touch it.

    `start` holds the trained weights as training began (their values are copied); `importance` the diagonal F by the
    base's parameter name, with mean 1; `free` names that are not pulled.
    Source: Li et al. 2018 (arXiv:1802.01483), equation 2; Kirkpatrick et al. 2017 (arXiv:1612.00796), equation 3.
    Checked: against autograd, tests/train/test_pull.py.
    """

    def __init__(
        self,
        start: Mapping[str, Tensor],
        *,
        l2_sp: float = 0.0,
        ewc: float = 0.0,
        importance: Mapping[str, Tensor] | None = None,
        pairs: list[Pair] | None = None,
        free: frozenset[str] = frozenset(),
    ):
        self.l2_sp, self.ewc, self.pairs = l2_sp, ewc, pairs or []
        self.importance = dict(importance or {})
        inside = {name for pair in self.pairs for name in (pair.a, pair.b)}
        self.start = {name: value.detach().clone() for name, value in start.items() if name not in free}
        self.plain = [name for name in self.start if name not in inside]

    @torch.no_grad()
    def add(self, masters: Masters, strength: float = 1.0) -> dict[str, float]:
        """Add the gradient, times `strength`, to the masters'; the two terms as they stand in the sum."""
        weights = masters.weights()
        gradients = masters.gradients()
        terms = {name: 0.0 for name, on in (("l2_sp", self.l2_sp), ("ewc", self.ewc)) if on}
        for name in self.plain:
            if name not in gradients:  # not thawed yet: it has not moved
                continue
            gradient = self._of(weights[name] - self.start[name], self.importance.get(name), strength, terms)
            gradients[name].add_(gradient)
        for pair in self.pairs:
            a, b = weights[pair.a], weights[pair.b]
            change = pair.scale * (b @ a - self.start[pair.b] @ self.start[pair.a])
            gradient = self._of(change, self.importance.get(pair.layer), strength, terms)
            gradients[pair.a].add_(b.T @ gradient, alpha=pair.scale)
            gradients[pair.b].add_(gradient @ a.T, alpha=pair.scale)
        return terms

    def _of(self, change: Tensor, importance: Tensor | None, strength: float, terms: dict[str, float]) -> Tensor:
        gradient = torch.zeros_like(change)
        if self.l2_sp:
            gradient += strength * self.l2_sp * change
            terms["l2_sp"] += 0.5 * strength * self.l2_sp * float(change.double().square().sum())
        if self.ewc and importance is not None:
            weighted = importance.to(change.device, change.dtype) * change
            gradient += strength * self.ewc * weighted
            terms["ewc"] += 0.5 * strength * self.ewc * float((weighted * change).double().sum())
        return gradient
