"""What an adapter is: which weights of the base may change, how, how fast, and with what it goes together."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pydantic

from attune.errors import RecipeError
from attune.plugins import Options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attune.recipe import Recipe

__all__ = ["Adapter", "Rate", "Pattern", "Targets", "block_of", "n_blocks"]

# `layers.7.`, `h.7.`, `layer.7.`, `block.7.`: how transformers names the n-th block, in every family
BLOCK = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")


def _compiles(given: Any) -> Any:
    if isinstance(given, str):
        try:
            re.compile(given)
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from error
    return given


Pattern = Annotated[str, pydantic.AfterValidator(_compiles)]
"""A regular expression."""
Targets = Annotated[str | list[str], pydantic.AfterValidator(_compiles)]
"""Which layers: `all-linear`, a list of name endings, or one regular expression."""


def block_of(name: str) -> int | None:
    """Number of the transformer block that a weight belongs to; None for embeddings, the last norm and heads."""
    found = BLOCK.search(name)
    return None if found is None else int(found[1])


def n_blocks(model: nn.Module) -> int:
    return 1 + max((block for name, _ in model.named_parameters() if (block := block_of(name)) is not None), default=-1)


@dataclass(frozen=True)
class Rate:
    """How fast a weight learns: a factor on the schedule's learning rate, from a share of all steps on."""

    factor: float = 1.0
    start: float = 0.0
    """Before it the weight is frozen: no gradient, no weight decay."""


class Adapter(ABC):
    """Decides which parameters train. `attach` may wrap the model (PEFT) or only set `requires_grad`.

    The class attributes are its line of the capability table; `check` refuses the rest before any weights are loaded.
    """

    name: ClassVar[str]
    heads: ClassVar[tuple[str, ...]] = ("lm", "sequence", "token")
    """Heads it can train, as in `Objective.head`."""
    bases: ClassVar[tuple[str, ...]] = ("decoder", "encoder", "encoder-decoder")
    layouts: ClassVar[tuple[str, ...]] = ("packed", "padded")
    wraps: ClassVar[bool] = False
    """Whether the model is wrapped by PEFT, so that the adapter can be saved alone."""
    merges: ClassVar[bool] = True
    """Whether the result can become a plain model of the base's own architecture."""
    starts_as_base: ClassVar[bool] = True
    """Whether it changes nothing before it is trained, so that the model answers as the base until the first step."""

    class Config(Options):
        """No options."""

    def __init__(self, options: Any = None):
        self.options: Any = options if options is not None else self.Config()

    # what goes together ----------------------------------------------------------------------------------------------

    def check(self, recipe: Recipe, *, head: str, config: Any) -> None:
        """Refuse what cannot work, from the recipe and the base's configuration alone.

        Raises: RecipeError with the reason.
        """
        kind = "encoder-decoder" if config.is_encoder_decoder else "decoder" if _is_decoder(config) else "encoder"
        refusal = None
        layout = recipe.train.layout
        if head not in self.heads:
            refusal = (f"it cannot train a {head} head", "adapter.type=lora")
        elif kind not in self.bases:
            fitting = " or ".join(self.bases)
            refusal = (f"{config.model_type} is an {kind}, and it is for {fitting} bases", "adapter.type=lora")
        elif layout != "auto" and layout not in self.layouts:
            refusal = (
                f"virtual tokens stand before every row, so train.layout={layout} has no place for them",
                "train.layout=padded, or leave it at auto",
            )
        elif recipe.model.layers is not None and not self.merges:
            refusal = (
                "it is saved alone, to be opened on top of its base, and a base of chosen layers is nobody else's",
                "drop model.layers, or adapter.type=lora",
            )
        refusal = refusal or self.refusal(recipe, head=head, config=config)
        if refusal is not None:
            why, fix = refusal
            raise RecipeError(
                f"adapter '{self.name}' does not go with this recipe",
                where=recipe.where("adapter.type"),
                why=why,
                fix=fix,
            )

    def refusal(self, recipe: Recipe, *, head: str, config: Any) -> tuple[str, str] | None:
        """(why, fix) where this adapter's own conditions are not met."""
        return None

    @property
    def virtual_tokens(self) -> int:
        """Positions of the context that the adapter itself takes up."""
        return 0

    @property
    def quantize(self) -> str | None:
        """`nf4` or `int8` where the frozen base is held in that format."""
        return None

    # building --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def attach(self, model: nn.Module, *, head: str) -> nn.Module:
        """The model that trains. `head` as in `Objective.head`: a new head always trains."""

    def usual_rate(self, n_weights: int) -> float:
        """The learning rate where the recipe names none, for a base of that size: 5e-4 at 7 M weights, 2e-5 at 1 B.

        Source: docs/LOG.md; the 1 B and 7 B ends are the field's common settings.
        """
        return float(f"{self._full_rate(n_weights):.1g}")

    @staticmethod
    def _full_rate(n_weights: int) -> float:
        return 5e-4 * (7e6 / max(n_weights, 1)) ** 0.65

    # a step ----------------------------------------------------------------------------------------------------------

    def rate(self, name: str) -> Rate:
        """How fast the weight of that name learns; a pure function, so that resuming needs no state."""
        return Rate()

    def before_update(self, weights: dict[str, nn.Parameter]) -> None:
        """May add to the gradients of a whole step, before they are clipped. `weights` are the float32 masters."""
        return

    def after_update(self, weights: dict[str, nn.Parameter], step: int, total: int) -> bool:
        """May change weights after update number `step` (from 0) of `total`; whether it did."""
        return False

    def state(self) -> dict[str, Tensor]:
        """What `after_update` remembers, for checkpoints."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        return

    def merge(self, tuned: Any) -> nn.Module:
        """The plain model with the adapter in its weights, for adapters that `wraps` and `merges`."""
        return tuned

    def finish(self, model: nn.Module, recipe: Recipe) -> None:
        """Last touches to a model that holds the trained weights, before it is saved."""
        return


def _is_decoder(config: Any) -> bool:
    from attune.model.heads import is_causal

    return is_causal(config)
