"""attune: turns your data and a base language model into a specialised model, and proves that it is better."""

from __future__ import annotations

import os
from typing import Any

# Before torch loads: its idle threads sleep instead of spinning. With one busy neighbour on a shared machine, spinning
# made training 7 times slower; sleeping costs nothing that could be measured on a quiet one (docs/LOG.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_PUBLIC = {
    "Record": "attune.records",
    "Recipe": "attune.recipe",
    "Run": "attune.runs",
    "run": "attune.flow",
    "plan": "attune.plan.plan",
    "prepare": "attune.flow_data",
    "audit": "attune.flow_data",
    "train": "attune.flow",
    "evaluate": "attune.flow",
    "search": "attune.search.search",
    "load": "attune.tuned",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    """Public names load on first use, so that `import attune` stays fast and imports no torch."""
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'attune' has no attribute {name!r}")
