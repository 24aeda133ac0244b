"""Crash-safe checkpoints.

A checkpoint is written into `.tmp-*`, every file fsynced, `MANIFEST.json` (sizes, SHA-256, fingerprints) last, then
renamed and the parent fsynced: what has the name is whole. Tensors are safetensors, the rest JSON; nothing is pickled.
"Latest" is the newest checkpoint that verifies; a damaged one is named and the one before it is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from attune.durable import fsync
from attune.errors import DataError, MachineError

__all__ = ["save", "load", "verify", "steps", "latest", "prune", "Checkpoint"]

NAME = re.compile(r"step-(\d{6,})")
MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verified."""

    path: Path
    step: int
    state: dict[str, Any]
    fingerprint: str


def save(
    folder: Path, step: int, *, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], fingerprint: str
) -> Path:
    """Write `folder/step-000200`. `tensors` is file name -> named tensors; `state` must be plain JSON.

    Raises: MachineError when the disk is full or not writable; nothing half-written stays visible.
    """
    from safetensors.torch import save_file

    final = folder / f"step-{step:06d}"
    temporary = folder / f".tmp-{final.name}-{os.getpid()}"
    need = sum(tensor.numel() * tensor.element_size() for group in tensors.values() for tensor in group.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".tmp-step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        entries = {}
        for name, group in tensors.items():
            path = temporary / f"{name}.safetensors"
            save_file({key: tensor.detach().contiguous() for key, tensor in group.items()}, path)
            entries[path.name] = _seal(path)
        path = temporary / "state.json"
        path.write_text(json.dumps(state, allow_nan=False))
        entries[path.name] = _seal(path)
        manifest = temporary / MANIFEST
        body = json.dumps({"step": step, "fingerprint": fingerprint, "files": entries})
        manifest.write_text(_signed(body))
        fsync(manifest)
        fsync(temporary)
        if final.exists():  # the same step saved again after a resume: same content, the old one goes
            shutil.rmtree(final)
        os.rename(temporary, final)
        fsync(folder)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        full = (
            isinstance(error, OSError)
            or "space" in str(error)
            or "I/O" in str(error)
            or "io error" in str(error).lower()
        )
        if not full:
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        why = "no space is left" if getattr(error, "errno", None) == errno.ENOSPC else str(error)[:200]
        raise MachineError(
            f"checkpoint of step {step} could not be written to {folder}",
            why=f"{why} (needs {need / 2**20:.0f} MiB, {free / 2**20:.0f} MiB free)",
            fix="free space and run the same command again: it goes on from the last good checkpoint",
        ) from error
    return final


def _signed(body: str) -> str:
    """A manifest's text: its body, and the SHA-256 of it."""
    return f"{body}\n{hashlib.sha256(body.encode()).hexdigest()}\n"


def _seal(path: Path) -> dict[str, Any]:
    fsync(path)
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint directory, oldest first, verified or not. Order is by step, never by file time."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := NAME.fullmatch(path.name)) and path.is_dir())


def verify(path: Path) -> Checkpoint:
    """The checkpoint, if every byte is what the manifest says.

    Raises: DataError naming the file and what is wrong with it.
    """
    try:
        text = (path / MANIFEST).read_text()
        body = text.partition("\n")[0]
        if text != _signed(body):
            raise ValueError(f"{MANIFEST} does not match its own SHA-256")
        manifest = json.loads(body)
        files, step, fingerprint = manifest["files"], int(manifest["step"]), str(manifest["fingerprint"])
        if path.name != f"step-{step:06d}" or "state.json" not in files:
            raise ValueError("it names another step or lacks its state")
        for name, entry in files.items():
            part = path / name
            if Path(name).name != name or part.is_symlink() or not part.is_file():
                raise ValueError(f"{name} is missing")
            if part.stat().st_size != entry["bytes"]:
                raise ValueError(f"{name} has {part.stat().st_size} bytes, not {entry['bytes']}")
            with open(part, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    raise ValueError(f"{name} does not match its SHA-256")
        return Checkpoint(path, step, json.loads((path / "state.json").read_bytes()), fingerprint)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"checkpoint {path} is damaged", why=f"{type(error).__name__}: {error}") from error


def load(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(checkpoint.path / f"{name}.safetensors")


def latest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, and one line for every newer one that does not.

    Raises: DataError if there are checkpoints and none verifies: training never silently starts again from nothing.
    """
    damaged: list[str] = []
    found = steps(folder)
    for step in reversed(found):
        try:
            return verify(folder / f"step-{step:06d}"), damaged
        except DataError as error:
            damaged.append(f"{error.what}: {error.why}")
    if found:
        raise DataError(
            f"none of the {len(found)} checkpoints in {folder} is whole",
            why="; ".join(damaged),
            fix="restore one from a backup, or start again in a new directory with --out",
        )
    return None, damaged


def prune(folder: Path, *, keep: int, best: int | Collection[int] | None, newest: int | None = None) -> None:
    """Delete old checkpoints but the newest `keep` and the best ones. Renamed away first, so that none is half there.

    Steps above `newest` are left alone and do not count: after a fallback they are the damaged ones.
    """
    found = [step for step in steps(folder) if newest is None or step <= newest]
    spared = () if best is None else (best,) if isinstance(best, int) else best
    for step in found[:-keep] if keep else found:
        if step in spared:
            continue
        path = folder / f"step-{step:06d}"
        doomed = folder / f".tmp-{path.name}-old"
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
