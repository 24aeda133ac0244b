"""Attention for packed rows: each sequence sees itself only, without ever building a T x T mask.

Registered with transformers under the name `segments`, for attention and for masks (a name missing from the latter
would drop even a given padding mask). Rows that carry no segments go to the library's own SDPA path.
Source: measured in docs/LOG.md; on CPU an explicit bmm beats SDPA's bf16 backward about two to one at chat lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attune.data.batch import Segments

__all__ = ["NAME", "packed_forward", "register"]

NAME = "segments"
_LONG = 1024  # beyond this an explicit L x L product costs more memory than it saves time

_packed = False  # masks are made at the top of a forward, never in a recomputed layer, so a plain flag is enough


@contextmanager
def packed_forward() -> Iterator[None]:
    """While it is open, models build no attention mask: the boundaries travel as `segments`."""
    global _packed
    _packed = True
    try:
        yield
    finally:
        _packed = False


def register() -> None:
    ALL_ATTENTION_FUNCTIONS.register(NAME, segment_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, segment_mask)


def segment_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return None if _packed else sdpa_mask(*args, **kwargs)


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: Segments | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each segment.

    Shapes: query [1, H, T, D]; key, value [1, H_kv, T, D]; returns [1, T, H, D].
    Raises: ValueError for variants it does not know (attention sinks, position biases): the caller then falls back.
    """
    if segments is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
        )
    if kwargs.get("s_aux") is not None or kwargs.get("position_bias") is not None:
        raise ValueError("attention sinks and position biases are not known to packed attention")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if not causal:
        raise ValueError("packed attention is for causal models")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    repeats = query.shape[1] // key.shape[1]
    outputs = []
    for index, n, width in segments.groups:
        q, k, v = (
            (part if index is None else part.index_select(2, index))[0].unflatten(1, (n, width))
            for part in (query, key, value)
        )  # [H, n, L, D]
        if repeats > 1:
            k, v = k.repeat_interleave(repeats, 0), v.repeat_interleave(repeats, 0)
        outputs.append(_attend(q, k, v, scaling, dropout, sliding_window, softcap).permute(1, 2, 0, 3).flatten(0, 1))
    joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]  # [sum n * L, H, D]
    if segments.inverse is not None:
        joined = joined.index_select(0, segments.inverse)
    return joined[None], None


def _attend(
    q: Tensor, k: Tensor, v: Tensor, scaling: float, dropout: float, window: int | None, softcap: float | None
) -> Tensor:
    """Shapes: q, k, v and the result [H, n, L, D]. Padding lies behind the real tokens, so causality alone hides it."""
    length = q.shape[2]
    windowed = window is not None and window < length
    if (q.device.type != "cpu" or length > _LONG) and not windowed and softcap is None:
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling
        )
        return out.transpose(0, 1)
    scores = torch.matmul(q * scaling, k.transpose(2, 3))
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    hidden = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    if windowed:
        hidden |= torch.ones_like(hidden).tril(-window)  # type: ignore[operator]
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    wide = torch.float64 if scores.dtype == torch.float64 else torch.float32
    weights = torch.softmax(scores, dim=-1, dtype=wide).to(q.dtype)
    if dropout:
        weights = torch.nn.functional.dropout(weights, dropout)
    return torch.matmul(weights, v)
