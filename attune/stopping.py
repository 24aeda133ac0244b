"""SIGTERM as an orderly end, wherever it arrives.

While steps are made, the training loop takes the signals itself and saves a checkpoint first.
"""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["received", "stop_in_order"]

received: list[int] = []
"""Signals that asked this process to end. An interrupt that lands inside another library's import may surface as any
exception: this list says what it was."""


def stop_in_order() -> None:
    """From here SIGTERM ends the work as Ctrl-C does: files are closed, the run says `interrupted`."""

    def stop(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
