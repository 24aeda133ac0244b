"""Where the work tells what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attune.runs import Run
    from attune.train.loop import Progress

__all__ = ["Show"]


class Show:
    """Where a flow tells what it does. This one is silent; the command line draws."""

    def stage(self, name: str) -> None: ...

    def say(self, line: str) -> None: ...

    def preview(self, text: str) -> None: ...

    def step(self, progress: Progress, total: int, row: dict[str, Any]) -> None: ...

    def table(self, table: Any) -> None: ...

    def results(self, run: Run, results: Any) -> None: ...
