"""Memory and arithmetic of a base from its shape alone: for bases and machines that are not here to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attune.plan.hardware import Machine

__all__ = ["Shape", "memory_gib", "seconds_on", "LIBRARIES_GIB"]

LIBRARIES_GIB = {"cpu": 0.6, "cuda": 0.5}
"""What Python, torch and the rest take in a CPU process (measured), or CUDA's own context on a GPU (usual)."""
UTILISATION = 0.35
"""Share of a data sheet's arithmetic that training of 1 B weights and more usually reaches; less below."""
KERNEL_SECONDS = 8e-6
"""Least time of one operation on a GPU: what small models mostly wait for."""
KERNELS_PER_LAYER = 60
"""Operations of a layer forwards and backwards."""
WIDE = 2.0
"""Times from data sheets are right within this factor either way, at best."""


@dataclass(frozen=True)
class Shape:
    """What decides the cost of a base."""

    parameters: float
    layers: int
    hidden: int
    vocabulary: int
    intermediate: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """From a transformers configuration; the number of weights is a close guess, exact counting needs the model."""
        text = config.get_text_config()
        hidden, layers = text.hidden_size, text.num_hidden_layers
        inner = getattr(text, "intermediate_size", None) or 4 * hidden
        gated = 3 if getattr(text, "hidden_act", "") in ("silu", "swish", "gelu_pytorch_tanh") else 2
        heads = text.num_attention_heads
        share = (getattr(text, "num_key_value_heads", None) or heads) / heads
        attention = (2 + 2 * share) * hidden * hidden
        embeddings = text.vocab_size * hidden * (1 if getattr(config, "tie_word_embeddings", True) else 2)
        return cls(embeddings + layers * (attention + gated * hidden * inner), layers, hidden, text.vocab_size, inner)


def memory_gib(
    shape: Shape, *, trained: float, forward_tokens: int, kind: str, checkpointing: bool = False, four_bit: bool = False
) -> float:
    """Peak of training: weights, float32 masters, gradients and AdamW's averages of what trains, activations, logits.

    Bases are loaded in float32 and then cast, so four bytes a weight are the least (0.6 in 4 bits).
    """
    held = 2 * shape.parameters if not four_bit else 0.6 * shape.parameters
    loaded = 4 * shape.parameters if not four_bit else held
    state = trained * (4 + 4 + 2 + 8)
    each = 2 * (16 * shape.hidden + 4 * shape.intermediate)
    kept = each + 2 * shape.hidden * shape.layers if checkpointing else each * shape.layers
    logits = 8 * 256 * shape.vocabulary
    peak = max(loaded, held + state + kept * forward_tokens + logits)
    return peak / 2**30 + LIBRARIES_GIB[kind]


def seconds_on(
    shape: Shape, machine: Machine, *, tokens: float, forwards: float, full: bool, training: bool = True
) -> tuple[float, float, float]:
    """(value, low, high) seconds for so many tokens in so many forwards, from a machine's data sheet."""
    assert machine.bf16_tflops is not None
    flops = (6 if full else 4) if training else 2
    share = UTILISATION * min(1.0, max(0.1, shape.parameters / 1e9) ** 0.3)
    arithmetic = flops * shape.parameters * tokens / (machine.bf16_tflops * 1e12 * share)
    waiting = forwards * shape.layers * KERNELS_PER_LAYER * KERNEL_SECONDS * (1.0 if training else 0.4)
    value = max(arithmetic, waiting) + 0.3 * min(arithmetic, waiting)
    return value, value / WIDE, value * WIDE
