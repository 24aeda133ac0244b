"""Work that goes on while a person reads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Worker"]


class Worker:
    """A call that is made now, or in a thread while the annotator reads."""

    def __init__(self, work: Callable[[], Any], *, background: bool):
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._run()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # raised again where the result is taken
            self._error = error

    def done(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def result(self) -> Any:
        self.join()
        if self._error is not None:
            raise self._error
        return self._result
