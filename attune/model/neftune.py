"""NEFTune: noise on the embeddings while training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attune.data.batch import Batch

__all__ = ["noise_of", "noisy"]


def noise_of(batch: Batch, width: int, alpha: float, key: tuple[int, int]) -> Tensor:
    """Uniform noise in (-1, 1) times alpha / sqrt(L d) for every real token of a batch, 0 on padding.

    Each sequence's noise is drawn by itself from `key` = (seed, step) and its example's number, on the CPU in float32:
    it does not depend on the layout, the micro-batches, the ranks or the device. An example that stands twice in one
    step gets the same noise twice.
    Shapes: [B, T, d]; L is the sequence's own length.
    Source: Jain et al. 2023 (arXiv:2310.05914), algorithm 1.
    Checked: tests/model/test_neftune.py.
    """
    rows, columns = batch.input_ids.shape
    noise = torch.zeros(rows * columns, width)
    if batch.segments is not None:
        bounds = batch.segments.bounds
        spans = list(zip(bounds[:-1], bounds[1:]))
    else:
        assert batch.mask is not None
        spans = [(row * columns, row * columns + int(length)) for row, length in enumerate(batch.mask.sum(1).tolist())]
    names = range(len(spans)) if batch.index is None else batch.index.tolist()
    for (start, end), name in zip(spans, names, strict=True):
        digest = hashlib.sha256(f"neftune/{key[0]}/{key[1]}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        drawn = torch.rand(end - start, width, generator=generator) * 2 - 1
        noise[start:end] = drawn * (alpha / ((end - start) * width) ** 0.5)
    return noise.view(rows, columns, width)


@contextmanager
def noisy(embedding: nn.Module, batch: Batch, alpha: float, key: tuple[int, int]) -> Iterator[None]:
    """While it is open, what the embedding gives for the batch carries the noise."""

    def add(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        if out.shape[:2] != batch.input_ids.shape:  # something else is embedded, such as a prompt's virtual tokens
            return out
        return out + noise_of(batch, out.shape[-1], alpha, key).to(out.device, out.dtype)

    handle = embedding.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
