"""The optimiser's side of a step: float32 masters, parameter groups, the schedule as one pure function."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from attune.model.adapters.full import Full
from attune.model.policy import Policy

if TYPE_CHECKING:
    from attune.recipe import Train

__all__ = ["Masters", "schedule"]


class Masters:
    """The trained weights in float32, and AdamW over them.

    The model itself may compute in bfloat16 (its weights are then rounded copies). Gradients of the micro-batches of a
    step are added up in float32, so that how a step is cut does not change its result beyond rounding.
    """

    def __init__(self, model: nn.Module, settings: Train, *, dtype: torch.dtype):
        """Casts the model to `dtype`, keeping the trained weights at full precision first.

        A policy's adapter says how fast each weight learns, as a factor on the learning rate, and from when on.
        """
        adapter = model.adapter if isinstance(model, Policy) else Full()
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.names = [name for name, _ in named]
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.split = dtype not in (torch.float32, torch.float64)
        originals = [parameter.detach().to(wide, copy=True) for _, parameter in named] if self.split else []
        # Parameters only: buffers such as rotary frequencies stay in float32, as they do when the model is served.
        for parameter in model.parameters():
            if parameter.is_floating_point() and not hasattr(parameter, "quant_state"):  # a few bits stay as they are
                parameter.data = parameter.data.to(dtype)
        self.parameters: list[nn.Parameter] = [parameter for _, parameter in named]
        self.masters: list[Tensor] = originals if self.split else [parameter.data for parameter in self.parameters]
        for master, parameter in zip(self.masters, self.parameters):
            if self.split:
                parameter.data.copy_(master)
        self._leaves = [nn.Parameter(master) for master in self.masters] if self.split else self.parameters
        rates = [adapter.rate(name) for name in self.names]
        self._starts = [rate.start for rate in rates]
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, leaf, rate in zip(self.names, self._leaves, rates):
            # Weight decay pulls matrices to zero; on norms, biases and scales it only does harm.
            pulled = leaf.ndim >= 2 and not name.endswith("bias")
            groups.setdefault((rate.factor, pulled), []).append(leaf)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": leaves, "weight_decay": settings.weight_decay if pulled else 0.0, "factor": factor}
                for (factor, pulled), leaves in sorted(groups.items(), key=lambda item: (-item[0][0], not item[0][1]))
            ],
            lr=settings.learning_rate or 0.0,
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            fused=wide == torch.float32,
        )

    @property
    def n_parameters(self) -> int:
        return sum(master.numel() for master in self.masters)

    @property
    def leaves(self) -> dict[str, nn.Parameter]:
        """The float32 masters by name, with the gradients of the step."""
        return dict(zip(self.names, self._leaves))

    def thaw(self, share: float) -> None:
        """Freeze what does not train yet after that share of all steps: no gradient, no update, no weight decay."""
        for parameter, start in zip(self.parameters, self._starts):
            parameter.requires_grad_(start <= share)

    def zero_grad(self) -> None:
        for leaf in self._leaves:
            leaf.grad = None
        for parameter in self.parameters:
            parameter.grad = None

    def collect(self) -> None:
        """Move the model's gradients into the masters' float32 sums."""
        if not self.split:
            return
        for parameter, leaf in zip(self.parameters, self._leaves):
            if parameter.grad is None:
                continue
            if leaf.grad is None:
                leaf.grad = parameter.grad.to(leaf.dtype)
            else:
                leaf.grad.add_(parameter.grad)
            parameter.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """The step's gradients by weight name, to add to; zeros where there is none yet, nothing for what is frozen."""
        found = {}
        for name, leaf, parameter in zip(self.names, self._leaves, self.parameters):
            if parameter.requires_grad:
                if leaf.grad is None:
                    leaf.grad = torch.zeros_like(leaf)
                found[name] = leaf.grad
        return found

    def clip(self, limit: float | None) -> Tensor:
        """Scale gradients to a total norm of at most `limit`; returns the norm before."""
        gradients = [leaf.grad for leaf in self._leaves if leaf.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if limit:
            torch.nn.utils.clip_grads_with_norm_(self._leaves, limit, norm)
        return norm

    def step(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["factor"]
        self.optimizer.step()
        self.publish()

    def publish(self) -> None:
        """Copy the masters into the model."""
        if self.split:
            with torch.no_grad():
                for master, parameter in zip(self.masters, self.parameters):
                    parameter.data.copy_(master)

    # state, for checkpoints -----------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.masters))

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, master in zip(self.names, self.masters):
                master.copy_(weights[name])
        self.publish()

    def moments(self) -> dict[str, Tensor]:
        """AdamW's running averages by weight name; empty before the first step."""
        state: dict[str, Tensor] = {}
        for name, leaf in zip(self.names, self._leaves):
            for key, value in self.optimizer.state.get(leaf, {}).items():
                state[f"{key}/{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
        return state

    def load_moments(self, state: dict[str, Tensor]) -> None:
        by_name = dict(zip(self.names, self._leaves))
        self.optimizer.state.clear()
        for key, value in state.items():
            kind, name = key.split("/", 1)
            leaf = by_name[name]
            # The fused update wants its step count on the device too; the plain one wants it on the CPU.
            device = leaf.device if kind != "step" or self.optimizer.defaults["fused"] else value.device
            dtype = value.dtype if kind == "step" else leaf.dtype
            self.optimizer.state[leaf][kind] = value.to(device, dtype, copy=True)


def schedule(progress: int, total: int, settings: Train) -> float:
    """Learning rate of step number `progress` (from 0) out of `total`, as a share of the peak.

    Warm-up is linear from 1/n; then `constant`, `linear`, `cosine` to `min_lr_ratio`, or `wsd` (warm-up, stable, decay:
    flat until the last `decay_ratio` of the run, then linear), whose flat part a longer run can continue.
    """
    warmup = settings.warmup_steps if settings.warmup_steps is not None else round(settings.warmup_ratio * total)
    if progress < warmup:
        return (progress + 1) / (warmup + 1)
    floor = settings.min_lr_ratio
    done = (progress - warmup) / max(1, total - warmup)
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "linear":
        return floor + (1 - floor) * (1 - done)
    if settings.schedule == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
    start = 1 - settings.decay_ratio
    share = (progress / max(1, total) - start) / settings.decay_ratio if settings.decay_ratio else 0.0
    return 1.0 if share <= 0 else floor + (1 - floor) * (1 - min(1.0, share))
