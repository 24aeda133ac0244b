"""Words from a model: generation, likelihood of sequences and labels, prompts, conversation."""

from __future__ import annotations

from typing import Any

_PUBLIC = {
    "Engine": "attune.generate.engine",
    "Generated": "attune.generate.engine",
    "score_labels": "attune.generate.labels",
    "to_probabilities": "attune.generate.labels",
    "chat": "attune.generate.chat",
    "classify_loop": "attune.generate.chat",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    """Public names load on first use: the engine needs torch, a recipe check does not."""
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'attune.generate' has no attribute {name!r}")
