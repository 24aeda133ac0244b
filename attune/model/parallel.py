"""One device or data-parallel ranks, behind a few functions. The only file that knows torch.distributed.

Gradients are SUMS over ranks divided once by global counts; DDP averages over ranks, so `backward` multiplies by the
number of ranks to undo it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from attune.model.policy import Policy

__all__ = ["Parallel"]


class Parallel:
    """This process's place among the ranks (`torchrun` sets RANK, WORLD_SIZE and LOCAL_RANK)."""

    def __init__(self) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(local)
        self.device = torch.device("cuda", local) if cuda else torch.device("cpu")
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo")
        self._module: nn.Module | None = None

    @property
    def main(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def wrap(self, policy: Policy) -> nn.Module:
        """What to call in training: the policy itself, or DDP around it."""
        self._module = policy
        if self.world > 1:
            from torch.nn.parallel import DistributedDataParallel

            self._module = DistributedDataParallel(policy, broadcast_buffers=False, find_unused_parameters=True)
            assert isinstance(self._module, DistributedDataParallel)
        return self._module

    @contextmanager
    def no_sync(self, on: bool) -> Iterator[None]:
        """Keep gradients local for all but the last micro-batch of a step."""
        if on and self.world > 1:
            with self._module.no_sync():  # type: ignore[union-attr, operator]
                yield
        else:
            yield

    def backward(self, loss: Tensor) -> None:
        (loss * self.world if self.world > 1 else loss).backward()

    def sum(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums over all ranks, key by key."""
        if self.world == 1 or not values:
            return values
        keys = sorted(values)
        joined = torch.stack([values[key].detach().to(torch.float64) for key in keys]).to(self.device)
        dist.all_reduce(joined)
        return dict(zip(keys, joined.unbind()))

    def any(self, flag: bool) -> bool:
        """True on every rank if it is true on one."""
        if self.world == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group; nobody may hold the wrapped policy any more.

        DDP must go first: as the group's last owner it would join, holding Python's lock, a thread that needs the lock.
        """
        self._module = None
        if self.world > 1 and dist.is_initialized():
            gc.collect()
            dist.destroy_process_group()
