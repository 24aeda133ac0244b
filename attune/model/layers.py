"""A shallower model out of a deeper one: some of its blocks, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from attune.errors import RecipeError

__all__ = ["check_layers", "keep_layers"]


def check_layers(config: Any, layers: Sequence[int], base: str) -> None:
    """Raises: RecipeError if the base has no such blocks, found out before its weights are read."""
    count = config.get_text_config().num_hidden_layers
    if max(layers) >= count:
        raise RecipeError(
            f"model.layers names block {max(layers)}, but {base} has {count}", fix=f"numbers from 0 to {count - 1}"
        )


def keep_layers(model: nn.Module, layers: Sequence[int]) -> None:
    """Keep the blocks of these numbers and forget the others; the configuration says so too.

    Source: Sanh et al. 2019 (arXiv:1910.01108), section 3: a student starts from every other block of its teacher.
    Raises: RecipeError where blocks cannot be told apart (shared weights).
    """
    config: Any = model.config
    config = config.get_text_config()
    count = config.num_hidden_layers
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    stacks = [stack for stack in stacks if count > 1 or stack[0].__class__.__name__.endswith(("Layer", "Block"))]
    if not stacks:
        raise RecipeError(
            f"model.layers does not fit a {config.model_type} model",
            why="its blocks are not a list of their own",
            fix="choose a smaller base instead",
        )
    stack = stacks[0]
    kept = [stack[number] for number in layers]
    for name, value in list(vars(config).items()):  # what is said of each block: its kind of attention, ...
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, [value[number] for number in layers])
    config.num_hidden_layers = len(kept)
    del stack[:]
    for number, block in enumerate(kept):
        stack.append(block)
        module: Any
        for module in block.modules():  # the key-value cache counts blocks
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
