"""AdaLoRA, by PEFT, in attune's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pydantic

from attune.model.adapters.base import Targets
from attune.model.adapters.wrapped import Wrapped
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attune.recipe import Recipe

__all__ = ["AdaLora"]


class AdaLora(Wrapped):
    """LoRA that moves its ranks to where they matter: singular directions of little importance are cut while training.

    The step counts of the method are shares of all steps here, so that they fit a run of any length.
    Source: Zhang et al. 2023 (arXiv:2303.10512); the allocation is PEFT's `RankAllocator`.
    Checked: tests/model/test_adapters.py compares it with PEFT's own `update_and_allocate`.
    """

    name = "adalora"

    class Config(Options):
        r: int = pydantic.Field(8, ge=1, le=1024)
        """Rank that an update has on average in the end."""
        init_r: int = pydantic.Field(12, ge=2, le=1536)
        """Rank that every update starts with."""
        alpha: float | None = pydantic.Field(None, gt=0)
        """Strength: the update is scaled by alpha / init_r. null means 2 init_r."""
        dropout: float = pydantic.Field(0.0, ge=0, lt=1)
        """Dropout on the input of each update."""
        target_modules: Targets = "all-linear"
        """Which layers get an update: `all-linear`, a list of name endings, or one regular expression."""
        warmup: float = pydantic.Field(0.1, ge=0, lt=1)
        """Share of all steps before ranks begin to move."""
        settle: float = pydantic.Field(0.3, gt=0, lt=1)
        """Share of all steps, at the end, in which ranks stay as they are."""
        every: int = pydantic.Field(5, ge=1)
        """Steps from one allocation to the next."""
        orthogonality: float = pydantic.Field(0.1, ge=0)
        """Pull that keeps the directions of an update apart."""

        @pydantic.model_validator(mode="after")
        def _falls(self) -> AdaLora.Config:
            if self.init_r <= self.r:
                raise ValueError(f"init_r {self.init_r} must be larger than r {self.r}: ranks are cut, never added")
            if self.warmup + self.settle >= 1:
                raise ValueError("warmup and settle leave no steps in which ranks move")
            return self

    _allocator: Any = None

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft import AdaLoraConfig

        options = self.options
        return AdaLoraConfig(
            task_type=task_type,
            target_r=options.r,
            init_r=options.init_r,
            lora_alpha=2 * options.init_r if options.alpha is None else options.alpha,
            lora_dropout=options.dropout,
            target_modules=options.target_modules,
            exclude_modules=self.excluded(task_type),
            orth_reg_weight=options.orthogonality,
            deltaT=options.every,
            total_step=1_000_000,  # this and the other counts of steps are set before the first update
        )

    def _steps(self, total: int) -> dict[str, int]:
        options = self.options
        last = max(1, round(options.settle * total))
        return {
            "total_step": total,
            "tfinal": last,
            "tinit": min(round(options.warmup * total), max(0, total - last - 1)),
        }

    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        tuned: Any = super().attach(model, head=head)
        self._allocator = tuned.base_model.rankallocator
        return tuned

    def before_update(self, weights: dict[str, nn.Parameter]) -> None:
        """Adds the gradient of orthogonality * mean over all A and B of |A A' - 1|."""
        import torch

        if not self.options.orthogonality:
            return
        chosen = [(name, weight) for name, weight in weights.items() if ".lora_A." in name or ".lora_B." in name]
        with torch.enable_grad():
            leaves = [weight.detach().requires_grad_() for _, weight in chosen]
            squares = [
                leaf @ leaf.T if ".lora_A." in name else leaf.T @ leaf for (name, _), leaf in zip(chosen, leaves)
            ]
            loss = torch.stack([(square - torch.eye(len(square)).to(square)).norm() for square in squares]).mean()
            pulls = torch.autograd.grad(self.options.orthogonality * loss, leaves)
        for (_, weight), pull in zip(chosen, pulls):
            weight.grad = pull if weight.grad is None else weight.grad + pull

    def after_update(self, weights: dict[str, nn.Parameter], step: int, total: int) -> bool:
        """As PEFT's `AdaLoraModel.update_and_allocate`, over the float32 masters.

        Source: peft/tuners/adalora/model.py.
        """
        import torch

        if total < 3:
            return False  # no room for warm-up, a cut and a last step
        config = self._allocator.peft_config
        for key, value in self._steps(total).items():
            setattr(config, key, value)
        updates = {name: weight for name, weight in weights.items() if ".lora_" in name}
        for weight in updates.values():
            if weight.grad is None:  # an expert that no token chose
                weight.grad = torch.zeros_like(weight)
        holder, cut = _Named(updates), config.total_step - config.tfinal
        if step < cut:
            _, pattern = self._allocator.update_and_allocate(holder, step)
            if pattern:
                config.rank_pattern = pattern
            return bool(pattern)
        if step == cut:
            _, config.rank_pattern = self._allocator.update_and_allocate(holder, step, force_mask=True)
            self._allocator.reset_ipt()
        else:
            self._allocator.mask_using_rank_pattern(holder, config.rank_pattern)
        return True

    def state(self) -> dict[str, Tensor]:
        import torch

        allocator = self._allocator
        state = {f"importance/{name}": value for name, value in allocator.exp_avg_ipt.items()}
        state |= {f"uncertainty/{name}": value for name, value in allocator.exp_avg_unc.items()}
        pattern = allocator.peft_config.rank_pattern or {}
        return state | {f"kept/{name}": torch.tensor(value, dtype=torch.uint8) for name, value in pattern.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        import torch

        allocator = self._allocator
        parts: dict[str, dict[str, Tensor]] = {"importance": {}, "uncertainty": {}, "kept": {}}
        for key, value in state.items():
            kind, name = key.split("/", 1)
            parts[kind][name] = value
        allocator.exp_avg_ipt, allocator.exp_avg_unc = parts["importance"], parts["uncertainty"]
        allocator.ipt = {name: torch.zeros_like(value) for name, value in parts["importance"].items()}
        allocator.peft_config.rank_pattern = {
            name: value.bool().tolist() for name, value in parts["kept"].items()
        } or None

    def finish(self, model: nn.Module, recipe: Recipe) -> None:
        """Which ranks are left, so that the saved adapter holds no more than those."""
        tuned: Any = model
        config = tuned.peft_config["default"]
        for key, value in self._steps(recipe.train.max_steps or 1_000_000).items():
            setattr(config, key, value)
        inner = dict(tuned.base_model.model.named_parameters())
        kept = {
            name: (weight != 0).view(-1).tolist() for name, weight in inner.items() if name.endswith(".lora_E.default")
        }
        config.rank_pattern = kept if any(any(ranks) for ranks in kept.values()) else None

    def usual_rate(self, n_weights: int) -> float:
        return float(f"{min(5e-3, max(5e-4, 20 * self._full_rate(n_weights))):.1g}")


class _Named:
    """Named weights in the shape that PEFT's allocator asks a model for."""

    def __init__(self, weights: dict[str, nn.Parameter]):
        self.weights = weights

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.weights.items()
