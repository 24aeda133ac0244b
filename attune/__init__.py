"""attune: turns your data and a base language model into a specialised model, and proves that it is better."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Record": "attune.records",
    "Recipe": "attune.recipe",
    "Run": "attune.runs",
    "run": "attune.flow",
    "train": "attune.flow",
    "evaluate": "attune.flow",
    "load": "attune.tuned",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    """Public names load on first use, so that `import attune` stays fast and imports no torch."""
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'attune' has no attribute {name!r}")
