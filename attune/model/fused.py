"""Log-probabilities of given tokens without a full logits tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["token_logp", "mean_logp", "chunked_logp", "logp_at", "top_logp", "chunked"]

_WHOLE = 32_000_000
"""Logits (numbers) that may exist at once; below it one pass is faster than recomputing chunks."""
_PART = 4_000_000
"""The same where nothing is recomputed."""


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def token_logp(logits: Tensor, target: Tensor) -> Tensor:
    """log p(target), in nats, computed in at least float32.

    Shapes: logits [M, V], target [M]; returns [M].
    """
    return -nn.functional.cross_entropy(_wide(logits), target, reduction="none")


def mean_logp(logits: Tensor) -> Tensor:
    """Mean over the whole vocabulary of log p, in nats, computed in at least float32.

    Shapes: logits [M, V]; returns [M].
    """
    wide = _wide(logits)
    return wide.mean(-1) - wide.logsumexp(-1)


def logp_at(logits: Tensor, ids: Tensor, temperature: Tensor) -> Tensor:
    """log p of given tokens at a temperature, and (last) of all other tokens together.

    The rest is summed over the other logits, not taken from 1, so that a rest of 1e-9 keeps its digits and gradient.
    Shapes: logits [M, V], ids [M, K] (distinct), temperature [M]; returns [M, K + 1] in nats.
    Checked: values and gradients of the plain log-softmax, tests/model/test_fused.py.
    """
    warm = _wide(logits)
    warm = warm / temperature[:, None].to(warm.dtype)
    whole = warm.logsumexp(-1, keepdim=True)
    named = warm.gather(-1, ids)
    if ids.shape[-1] >= warm.shape[-1]:  # nothing is left over
        rest = torch.full_like(whole, -torch.inf).detach()
    else:
        rest = warm.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([named, rest], -1) - whole


def top_logp(logits: Tensor, k: int, temperature: float, vocab: int | None = None) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens and `logp_at` of them; over the first `vocab` tokens where it is given.

    Shapes: logits [M, V]; returns ids [M, K], log-probabilities [M, K + 1].
    """
    logits = logits[:, :vocab]
    ids = logits.topk(min(k, logits.shape[-1]), dim=-1).indices
    return ids, logp_at(logits, ids, torch.full_like(logits[:, 0], temperature, dtype=torch.float32))


def chunked(
    score: Callable[..., tuple[Tensor, ...]], head: nn.Module, hidden: Tensor, *rows: Tensor
) -> tuple[Tensor, ...]:
    """`score(head(hidden), *rows)` in chunks of rows that are recomputed in the backward pass.

    The head is called as a module, so that adapters on it, and hooks that gather its weights, work.
    Shapes: hidden [M, H], each of `rows` [M, ...]; every tensor that `score` returns has the rows of its input.
    """
    width = getattr(head, "out_features", None) or getattr(head, "weight", hidden).shape[0]
    size = max(256, (_WHOLE if torch.is_grad_enabled() else _PART) // max(int(width), 1))
    if hidden.shape[0] <= size:
        return score(head(hidden), *rows)

    def chunk(part: Tensor, *of_rows: Tensor) -> tuple[Tensor, ...]:
        return score(head(part), *of_rows)

    parts = zip(*(tensor.split(size) for tensor in (hidden, *rows)))
    if torch.is_grad_enabled():
        found = [checkpoint(chunk, *part, use_reentrant=False) for part in parts]
    else:
        found = [chunk(*part) for part in parts]
    return tuple(torch.cat(column) for column in zip(*found))


def chunked_logp(head: nn.Module, hidden: Tensor, target: Tensor) -> Tensor:
    """`token_logp(head(hidden), target)` in chunks.

    Shapes: hidden [M, H], target [M]; returns [M].
    """
    return chunked(lambda logits, wanted: (token_logp(logits, wanted),), head, hidden, target)[0]
