"""Machines: this one as it is, others from a table of their makers' figures."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attune.errors import UsageError
from attune.plugins import nearest

__all__ = ["Machine", "machine", "names"]

TABLE = Path(__file__).with_name("hardware.json")


@dataclass(frozen=True)
class Machine:
    """What a plan must know of a machine."""

    name: str
    title: str
    kind: str
    """`cpu` or `cuda`."""
    memory_gib: float
    """What a process may take of it."""
    here: bool
    source: str
    """`this machine`, or where the figures come from."""
    bf16_tflops: float | None = None
    gb_per_second: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@cache
def _table() -> dict[str, Any]:
    return json.loads(TABLE.read_text(encoding="utf-8"))["machines"]


def names() -> list[str]:
    return ["here", "cpu", *_table()]


def machine(name: str = "here") -> Machine:
    """A machine by name: `here` (or `cpu`, without its GPU), or one of the table.

    Raises: UsageError for an unknown one.
    """
    if name in ("here", "cpu"):
        return _this(allow_gpu=name == "here")
    if name not in _table():
        raise UsageError(
            f"unknown --hardware '{name}'{nearest(name, names())}",
            why="attune has no figures of it",
            fix=f"one of: {', '.join(names())}",
        )
    return Machine(name=name, kind="cuda", here=False, source="from the data sheet, not measured", **_table()[name])


def _this(*, allow_gpu: bool) -> Machine:
    if allow_gpu and Path("/dev/nvidiactl").exists():
        import torch

        if torch.cuda.is_available():
            facts = torch.cuda.get_device_properties(0)
            free = 0.94 * facts.total_memory / 2**30
            return Machine("here", facts.name, "cuda", round(free, 1), True, "this machine")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine("here", f"CPU, {cores} cores", "cpu", round(_free_gib(), 1), True, "this machine")


def _free_gib() -> float:
    """Memory that is free now, within the container's limit."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            free = min(free, max(0, int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text())))
    except (OSError, ValueError, StopIteration):
        pass  # not Linux, or no cgroup: what is known so far stands
    return free / 2**30
