"""Getting the most out of the machine at hand, before the first tensor."""

from __future__ import annotations

import ctypes
import os
import sys

import numpy as np
import torch

__all__ = ["Gathered", "prepare", "usable_cores", "fast_bfloat16", "peak_memory_gib", "is_out_of_memory"]

# On a CPU, oneDNN and the layer PyTorch has over it keep what they made for the last 1,024 shapes of a product each:
# code, and scratch memory as large as the operands. Texts differ in length, so nearly every forward is a new shape, and
# a process would double in size over some hundred forwards. Both read these at their first product, hence at import.
# Source: docs/LOG.md, what grows while training.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "32")


class Gathered:
    """Rows that come with each forward and stay: one block that doubles when it is full.

    Kept as arrays of their own, they would come to lie in the large blocks that a forward has freed; the next forward
    finds none of them whole and asks for more, each time. Source: docs/LOG.md, what grows while training.
    """

    def __init__(self) -> None:
        self._block: np.ndarray | None = None
        self._used = 0

    def add(self, rows: torch.Tensor) -> None:
        """More rows, of the shape and type of the first ones but for their number. Shapes: [n, ...]."""
        new = rows.detach().cpu().numpy()
        end = self._used + len(new)
        if self._block is None or end > len(self._block):
            grown = np.empty((max(2 * end, 4096), *new.shape[1:]), dtype=new.dtype)
            if self._block is not None:
                grown[: self._used] = self.rows
            self._block = grown
        self._block[self._used : end] = new
        self._used = end

    @property
    def rows(self) -> np.ndarray:
        """All of them so far; empty where none came. Shapes: [N, ...]."""
        return np.empty(0) if self._block is None else self._block[: self._used]


def usable_cores() -> int:
    """Cores this process may use: affinity and the cgroup's quota, whichever is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = open("/sys/fs/cgroup/cpu.max").read().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return cores


def prepare(threads: int | None = None) -> int:
    """Set the thread count (default: usable cores) and keep freed memory; returns the threads in use.

    Training frees and asks for the same large blocks every step. glibc returns each to the kernel, which then zeroes
    its pages again: up to a third of a small model's step. Keeping them costs nothing but the peak reached anyway.
    Source: docs/LOG.md, allocator ablation.
    """
    if sys.platform == "linux":
        try:
            libc = ctypes.CDLL("libc.so.6")
            m_trim_threshold, m_mmap_max = -1, -4
            libc.mallopt(m_mmap_max, 0)
            libc.mallopt(m_trim_threshold, 2**31 - 1)
        except (OSError, AttributeError):
            pass
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # "4,1": one number a nesting level
    torch.set_num_threads(threads or (int(asked) if asked.isdigit() else 0) or usable_cores())
    return torch.get_num_threads()


def fast_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 matrices faster than float32 ones."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def peak_memory_gib() -> float:
    """Most memory used so far: of the device on a GPU, of the process on a CPU.

    On Linux from VmHWM: `ru_maxrss` counts what the parent held when it started this process.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 2**20
    except (OSError, StopIteration):
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
