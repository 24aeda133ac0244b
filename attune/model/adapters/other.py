"""Every other method of PEFT, by its name there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pydantic

from attune.model.adapters.wrapped import Wrapped, linear_names
from attune.plugins import Options, nearest

if TYPE_CHECKING:
    from torch import nn

    from attune.recipe import Recipe

__all__ = ["Other"]

OWN = {
    "LORA": "lora",
    "ADALORA": "adalora",
    "IA3": "ia3",
    "VERA": "vera",
    "LN_TUNING": "layernorm",
    "PROMPT_TUNING": "prompt_tuning",
    "PREFIX_TUNING": "prefix",
    "P_TUNING": "p_tuning",
}
"""Methods with an adapter of their own here."""
TASKS = "it needs the number of a task beside every text"
REFUSED = {
    "ADAMSS": "it chooses what trains between steps, in callbacks of another trainer",
    "ADAPTION_PROMPT": "it rewrites the attention of Llama-type models in a way that changes with each transformers",
    "CARTRIDGE": "it is made from a long text's own keys and values, not from training examples",
    "CPT": "it scores the tokens of its own prompt, which are no part of an objective here",
    "LILY": "what it makes of a text depends on the other texts of the batch",
    "MULTITASK_PROMPT_TUNING": TASKS,
    "POLY": TASKS,
    "SHADOW": "it trains a second network beside the model, which no head here reads",
    "TRAINABLE_TOKENS": "it trains the vectors of chosen tokens only, and attune adds no tokens",
    "XLORA": "it mixes LoRA adapters that exist already",
}
"""Methods that cannot serve as an adapter here, and why."""
UNMERGED = ("BEFT",)
"""Methods that PEFT cannot merge into every base."""
DRAWN = ("C3A", "FOURIERFT", "UNILORA", "VBLORA")
"""Methods whose update is drawn at random, so that the untrained model is not the base."""


class Other(Wrapped):
    """Any other method of PEFT by its name there: loha, lokr, oft, boft, hra, fourierft, waveft, miss, hira, ...

    Its options are passed on and checked by PEFT's own configuration class.
    Source: https://huggingface.co/docs/peft, which describes every method and its options.
    """

    name = "peft"

    class Config(Options):
        method: str = "loha"
        """PEFT's name of the method: `loha`, `lokr`, `oft`, `hra`, ..."""
        options: dict[str, Any] = {}
        """Options of the method, as in PEFT's configuration class. Layers are all linear ones where none are named."""
        learning_rate_factor: float = pydantic.Field(10.0, gt=0, le=10_000)
        """Where train.learning_rate is null: the rate as a multiple of full fine-tuning's."""

    @property
    def kind(self) -> str:
        return self.options.method.upper().replace("-", "_")

    @property
    def merges(self) -> bool:  # type: ignore[override]
        return self.kind not in UNMERGED

    @property
    def starts_as_base(self) -> bool:  # type: ignore[override]
        return self.kind not in DRAWN

    def refusal(self, recipe: Recipe, *, head: str, config: Any) -> tuple[str, str] | None:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        kind, given = self.kind, self.options.options
        known = {str(name.value): plugin for name, plugin in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
        usable = sorted(name.lower() for name in known if name not in OWN and name not in REFUSED)
        if kind in OWN:
            return f"{self.options.method} has an adapter of its own", f"adapter.type={OWN[kind]}"
        if kind in REFUSED:
            return REFUSED[kind], f"adapter.method: one of {', '.join(usable)}"
        if kind not in known:
            return (
                f"PEFT has no method '{self.options.method}'{nearest(kind.lower(), usable)}",
                f"one of {', '.join(usable)}",
            )
        allowed = {field.name for field in dataclasses.fields(known[kind])} - {"task_type", "peft_type"}
        if unknown := sorted(set(given) - allowed):
            return f"{kind.lower()} has no option '{unknown[0]}'{nearest(unknown[0], sorted(allowed))}", (
                f"options of {known[kind].__name__}: {', '.join(sorted(allowed))}"
            )
        try:
            known[kind](**given)
        except (TypeError, ValueError) as error:
            return f"PEFT refuses these options: {str(error)[:200]}", "change adapter.options"
        return None

    def peft_config(self, model: nn.Module, task_type: Any) -> Any:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        plugin = PEFT_TYPE_TO_CONFIG_MAPPING[self.kind]  # type: ignore[index]
        names = {field.name for field in dataclasses.fields(plugin)}
        given = dict(self.options.options)
        if "target_modules" in names and given.get("target_modules") in (None, "all-linear"):
            given["target_modules"] = linear_names(model)
        elif "exclude_modules" in names:
            given.setdefault("exclude_modules", self.excluded(task_type))
        return plugin(task_type=task_type, **given)

    def usual_rate(self, n_weights: int) -> float:
        return float(f"{min(2e-3, self.options.learning_rate_factor * self._full_rate(n_weights)):.1g}")
