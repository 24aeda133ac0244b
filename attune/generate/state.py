"""Prompts that a model has read, and the choice of the next token."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

__all__ = ["Prefilled", "draw_numbers", "sample"]


@dataclass
class Prefilled:
    """Prompts that the model has read: what is needed to go on after them.

    Shapes: B prompts, P cached positions. `mask` [B, P] is 0 at padding; `length` [B] counts real positions (the next
    position id); `logits` [B, V] float32 scores of the next token.
    """

    cache: Any
    mask: torch.Tensor
    length: torch.Tensor
    logits: torch.Tensor

    def fork(self) -> Prefilled:
        """The same, to go on from without changing this one; nothing is copied."""
        return replace(self, cache=_fork(self.cache))

    def rows(self, index: torch.Tensor) -> Prefilled:
        """The same for chosen rows, which may repeat; this one stays as it is."""
        cache = _fork(self.cache)
        cache.reorder_cache(index)
        return replace(self, cache=cache, mask=self.mask[index], length=self.length[index], logits=self.logits[index])


def _fork(cache: Any) -> Any:
    """A cache that grows by itself. Its layers replace their tensors when they grow, so sharing them is safe."""
    fork = copy.copy(cache)
    if hasattr(cache, "cross_attention_cache"):  # an encoder-decoder's: one for each kind of attention
        fork.self_attention_cache = _fork(cache.self_attention_cache)
        fork.cross_attention_cache = _fork(cache.cross_attention_cache)
        fork.is_updated = dict(cache.is_updated)
        return fork
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork


def draw_numbers(seeds: list[tuple[int, int]], steps: int) -> torch.Tensor:
    """Uniform numbers [row, step], each row from its own generator."""
    rows = [np.random.default_rng(seed).random(steps) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).float()


def penalised(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """Scores [B, V] with those of `seen` tokens lowered: divided by the penalty above zero, multiplied below."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def sample(scores: torch.Tensor, top_p: float, draws: torch.Tensor) -> torch.Tensor:
    """Tokens [B] drawn by inverting the cumulative distribution of the smallest set that holds `top_p` of the mass."""
    chances, tokens = scores.softmax(-1).sort(dim=-1, descending=True, stable=True)
    reached = chances.cumsum(-1)
    chances = chances.masked_fill(reached - chances >= top_p, 0.0)
    reached = chances.cumsum(-1)
    at = torch.searchsorted(reached, (draws * reached[:, -1])[:, None], right=True).clamp(max=scores.shape[-1] - 1)
    return tokens.gather(1, at)[:, 0]
