"""Saves one checkpoint in a stopped fork, so that a test can attach strace to exactly that.

Each line on stdin is a folder; the child's pid is printed, it waits for SIGCONT, saves step 2 and prunes; its wait
status is printed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import safetensors.torch  # noqa: F401  loaded before the forks
import torch

from attune.errors import MachineError
from attune.train import checkpoint


def tensors(step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "weights": {"w": torch.full((64, 64), float(step)), "b": torch.arange(9.0) * step},
        "optimizer": {"exp_avg/w": torch.full((64, 64), -float(step))},
    }


def save(folder: Path, step: int) -> None:
    checkpoint.save(folder, step, tensors=tensors(step), state={"step": step, "loss": 0.1 * step}, fingerprint="f")


def main() -> None:
    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.kill(os.getpid(), signal.SIGSTOP)
                save(Path(line.strip()), 2)
                checkpoint.prune(Path(line.strip()), keep=1, best=None, newest=2)
                code = 0
            except MachineError as error:
                code = error.exit_code
            finally:
                os._exit(code)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
