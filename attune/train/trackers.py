"""Where figures go. metrics.jsonl is the truth; trackers mirror it, and a tracker that fails never stops training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attune.errors import MachineError

if TYPE_CHECKING:
    from attune.recipe import Recipe
    from attune.runs import Run

__all__ = ["track"]


def track(recipe: Recipe, run: Run) -> Callable[[dict[str, Any]], None]:
    """A function that logs one row everywhere the recipe asks for. The loop calls it on the first rank only.

    Raises: MachineError if a tracker's package is missing.
    """
    if "tensorboard" not in recipe.track or not run.writes:
        return run.log
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MachineError(
            "track: tensorboard is not installed", why=str(error), fix="pip install 'attune[track]'"
        ) from error
    writer: Any = SummaryWriter(str(run.path / "tensorboard"))
    failed = False

    def log(row: dict[str, Any]) -> None:
        nonlocal failed
        run.log(row)
        if failed:
            return
        try:
            for name, value in row.items():
                if isinstance(value, (int, float)) and name != "step":
                    writer.add_scalar(name, value, row["step"])
            writer.flush()
        except OSError as error:
            failed = True
            print(f"tensorboard stopped: {error}; metrics.jsonl goes on", file=sys.stderr)

    return log
