"""Detectors of personal data, one file a family."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

__all__ = ["detectors", "kinds"]


@cache
def detectors() -> tuple[ModuleType, ...]:
    """All detector modules, the one that wins where two overlap first."""
    modules = [
        importlib.import_module(f"{__name__}.{item.name}")
        for item in pkgutil.iter_modules(__path__)
        if item.name != "base"
    ]
    found = [module for module in modules if hasattr(module, "KINDS")]
    return tuple(sorted(found, key=lambda module: (-module.PRIORITY, module.__name__)))


def kinds() -> tuple[str, ...]:
    """All kinds of personal data that can be found, sorted."""
    return tuple(sorted({kind for module in detectors() for kind in module.KINDS}))
