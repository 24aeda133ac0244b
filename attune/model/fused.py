"""Log-probabilities of given tokens without a full logits tensor."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["token_logp", "chunked_logp"]

_WHOLE = 32_000_000
"""Logits (numbers) that may exist at once; below it one pass is faster than recomputing chunks."""


def token_logp(logits: Tensor, target: Tensor) -> Tensor:
    """log p(target), in nats, computed in at least float32.

    Shapes: logits [M, V], target [M]; returns [M].
    """
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return -nn.functional.cross_entropy(logits.to(wide), target, reduction="none")


def chunked_logp(head: nn.Module, hidden: Tensor, target: Tensor) -> Tensor:
    """`token_logp(head(hidden), target)` in chunks that are recomputed in the backward pass.

    The head is called as a module, so that adapters on it, and hooks that gather its weights, work.
    Shapes: hidden [M, H], target [M]; returns [M].
    """
    width = getattr(head, "out_features", None) or getattr(head, "weight", hidden).shape[0]
    rows = max(256, _WHOLE // max(int(width), 1))
    if hidden.shape[0] <= rows:
        return token_logp(head(hidden), target)

    def chunk(part: Tensor, wanted: Tensor) -> Tensor:
        return token_logp(head(part), wanted)

    parts = zip(hidden.split(rows), target.split(rows))
    if not torch.is_grad_enabled():
        return torch.cat([chunk(part, wanted) for part, wanted in parts])
    return torch.cat([checkpoint(chunk, part, wanted, use_reentrant=False) for part, wanted in parts])
