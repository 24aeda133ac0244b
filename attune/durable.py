"""Writing that survives a crash: a reader finds the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attune.errors import MachineError

__all__ = ["fsync", "publish", "take_lock", "write_json", "write_text"]


def fsync(path: Path) -> None:
    """Make what a file holds, or the names that a folder holds, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished folder its name, in place of what has it: every byte is on disk before the name is."""
    for path in temporary.rglob("*"):
        fsync(path)
    fsync(temporary)
    if final.exists():
        shutil.rmtree(final)
    os.rename(temporary, final)
    fsync(final.parent)


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Replace a file in one step: a reader sees the old text or the new, never half of it. `text` may come in parts."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines([text] if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise MachineError(
            f"cannot write {path}", why=str(error), fix="free disk space or choose another --out"
        ) from error
    fsync(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def take_lock(folder: Path) -> int:
    """Be the only process that writes to a folder, until the descriptor is closed or the process ends.

    Raises: MachineError naming the owner's pid and host.
    """
    import fcntl

    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(fd, 200).decode(errors="replace").strip()
        os.close(fd)
        raise MachineError(
            f"{folder} is in use",
            why=f"another process writes to it ({owner})",
            fix="wait for it, or choose another --out",
        ) from error
    os.ftruncate(fd, 0)
    os.write(fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
    return fd
