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
    groups = [(n, width) for _, n, width in segments.groups]
    q, k, v = (
        [part.unflatten(0, (-1, n, width)) for part, (n, width) in zip(parts, groups)]
        for parts in (_gathered(stream[0], segments) for stream in (query, key, value))
    )  # of every group [H, n, L, D]
    if repeats > 1:
        k, v = ([part.repeat_interleave(repeats, 0) for part in parts] for parts in (k, v))
    outputs = [_attend(*of_group, scaling, dropout, sliding_window, softcap) for of_group in zip(q, k, v)]
    joined = torch.cat([part.flatten(0, 2) for part in outputs])
    rows = segments.rows(query.shape[1], query.device)
    return _Rearranged.apply(joined, rows.back, rows.there, rows.padding).unflatten(0, (1, -1, query.shape[1])), None


def _gathered(stream: Tensor, segments: Segments) -> tuple[Tensor, ...]:
    """Shapes: stream [H, T, D]; of each group [H * n * L, D], contiguous, heads outermost."""
    heads = stream.shape[0]
    rows = segments.rows(heads, stream.device)
    # Projections leave the heads of a token side by side, so this flattening copies nothing.
    flat = stream.transpose(0, 1).flatten(0, 1)
    # Padding repeats a last token behind it: causality hides it, and its own output is dropped. No gradient enters it.
    gathered = _Rearranged.apply(flat, rows.there, rows.back, None)
    return gathered.split([heads * n * width for _, n, width in segments.groups])


class _Rearranged(torch.autograd.Function):
    """Rows in another order, whose gradient is a gather too: autograd's own would fill zeros and add into them.

    Shapes: x [N, D], order [N'], way_back [N], gradients of the rows `dropped` are zero; returns [N', D].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, way_back: Tensor, dropped: Tensor | None) -> Tensor:
        ctx.save_for_backward(way_back, dropped)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        way_back, dropped = ctx.saved_tensors
        gradient = gradient.index_select(0, way_back)
        return gradient if dropped is None else gradient.index_fill_(0, dropped, 0), None, None, None


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
    hidden = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    if windowed:
        hidden += torch.full_like(hidden, -torch.inf).tril_(-window)  # type: ignore[operator]
    shape = q.shape
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    if softcap is None:  # one call instead of scale, multiply and mask
        scores = torch.baddbmm(hidden.expand(len(q), -1, -1), q, k.transpose(1, 2), alpha=scaling)
    else:
        scores = torch.tanh(torch.bmm(q * scaling, k.transpose(1, 2)) / softcap) * softcap + hidden
    weights = torch.softmax(scores, dim=-1)  # in float32 inside, whatever the type
    if dropout:
        weights = torch.nn.functional.dropout(weights, dropout)
    return torch.bmm(weights, v).view(shape)
