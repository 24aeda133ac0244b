"""Every error attune raises on purpose, and the exit code each kind maps to."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AttuneError",
    "UsageError",
    "RecipeError",
    "DataError",
    "GateError",
    "MachineError",
    "DivergedError",
    "Interrupted",
]


class AttuneError(Exception):
    """Something a user can understand and act on: what happened, where, why, and how to fix it.

    `where` is `file:line:column` where there is one. The command line prints the four parts and exits with `exit_code`;
    a traceback is shown only with `--debug`.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, fix: str | None = None):
        self.what, self.where, self.why, self.fix = what, where, why, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(AttuneError):
    """The command was called in a way it does not understand."""

    exit_code = 2


class RecipeError(AttuneError):
    """The recipe asks for something that cannot be."""

    exit_code = 3
    file: Path | None = None
    """The recipe file, where its keys or values are wrong."""


class DataError(AttuneError):
    """The data, or a file made from it, is not what it must be."""

    exit_code = 3


class GateError(AttuneError):
    """A model does not meet a condition that the recipe sets."""

    exit_code = 4


class MachineError(AttuneError):
    """The machine cannot do it now: disk, memory, port, lock, a missing package."""

    exit_code = 5


class DivergedError(AttuneError):
    """Training or evaluation met a number that is not finite."""

    exit_code = 6


class Interrupted(AttuneError):
    """Stopped by a signal after saving; the run can be resumed."""

    def __init__(
        self, what: str, *, signum: int, where: str | None = None, why: str | None = None, fix: str | None = None
    ):
        super().__init__(what, where=where, why=why, fix=fix)
        self.exit_code = 128 + signum
