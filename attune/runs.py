"""The run directory: the only place a run writes, and everything a later command needs to know about it.

recipe.yaml  env.json  status.json  metrics.jsonl  log.txt
data/{manifest.json, preview.txt}  checkpoints/step-000200/  model/  evaluation/  report.html
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attune.durable import take_lock, write_json, write_text
from attune.errors import MachineError, UsageError

__all__ = ["Run", "list_runs"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class Run:
    """One run directory. Opening one costs nothing; `create` makes one, `lock` makes this process its only writer."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "status.json").exists():
            known = [run.path.name for run in list_runs(self.path.parent)][-5:]
            raise UsageError(
                f"{self.path} is not a run directory",
                why="it has no status.json",
                fix=f"runs beside it: {', '.join(known)}" if known else "`attune ls` lists the runs of a folder",
            )
        self._lock: int | None = None
        self.writes = True
        """False on the ranks of a distributed run that only compute."""

    @classmethod
    def create(cls, path: str | Path, recipe_yaml: str, **facts: Any) -> Run:
        """Make the directory and write what is known before the work starts; `facts` go into the status.

        Raises: UsageError if the name is unsafe; MachineError if it cannot be written.
        """
        path = Path(path)
        if not NAME.fullmatch(path.name):
            raise UsageError(f"'{path.name}' is not a run name", fix="letters, digits, '.', '_', '-'; at most 96")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"cannot create {path}", why=str(error), fix="choose another --out") from error
        write_text(path / "recipe.yaml", recipe_yaml)
        write_json(path / "env.json", environment())
        write_json(path / "status.json", {"state": "created", "created": time.time(), **facts})
        return cls(path)

    @property
    def stages(self) -> list[Run]:
        """The runs of a run in stages, in order, as far as they were begun; empty for any other."""
        folders = [self.path / "stages" / name for name in self.status.get("stages", [])]
        return [Run(folder) for folder in folders if (folder / "status.json").exists()]

    @property
    def last(self) -> Run:
        """The run whose model this one's is: itself, or of a run in stages the last stage that has a model."""
        finished = [run for run in self.stages if (run.model_dir / "manifest.json").exists()]
        return finished[-1] if finished else self

    # status ---------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> dict[str, Any]:
        return json.loads((self.path / "status.json").read_text())

    def set_status(self, state: str, **facts: Any) -> None:
        """created | running | done | budget | interrupted | pruned | failed | diverged, with facts that explain it."""
        if not self.writes:
            return
        write_json(self.path / "status.json", {**self.status, "state": state, "updated": time.time(), **facts})

    # one writer -----------------------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Be the only process that writes here, until it ends. A dead owner's lock is free by itself (flock).

        Raises: MachineError naming the owner's pid and host.
        """
        if self.writes:
            self._lock = take_lock(self.path)

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # metrics --------------------------------------------------------------------------------------------------------

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl. A non-finite number becomes its name, so that the file stays JSON."""
        safe = {
            key: str(value) if isinstance(value, float) and value - value != 0 else value for key, value in row.items()
        }
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(safe, allow_nan=False) + "\n")

    def rewind(self, step: int) -> None:
        """Drop logged lines after `step`: they will be made again by a resumed run."""
        path = self.path / "metrics.jsonl"
        if self.writes and path.exists():
            write_text(path, "".join(json.dumps(row) + "\n" for row in self.history() if row.get("step", 0) <= step))

    def history(self) -> Iterator[dict[str, Any]]:
        """Logged lines, oldest first; a line cut by a crash is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    # results --------------------------------------------------------------------------------------------------------

    @property
    def model_dir(self) -> Path:
        return self.path / "model"

    @property
    def results(self) -> dict[str, Any]:
        """evaluation/results.json: everything the report shows.

        Raises: UsageError if the run was not evaluated.
        """
        path = self.path / "evaluation" / "results.json"
        if not path.exists():
            raise UsageError(f"{self.path} has no evaluation yet", fix=f"attune evaluate {self.path}")
        return json.loads(path.read_text())

    @property
    def metrics(self) -> dict[str, float]:
        """Test and validation figures of the tuned model: `test/f1_macro` -> value."""
        return {key: figure["value"] for key, figure in self.results["metrics"].items()}

    def load(self):
        """The tuned model, ready to answer: see `attune.load`."""
        # The one step upwards from the ground, taken only when somebody asks for the model.
        import importlib

        return importlib.import_module("attune.tuned").load(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status['state']})"


def list_runs(folder: str | Path) -> list[Run]:
    """Runs directly in a folder, oldest first."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    runs = [Run(path.parent) for path in folder.glob("*/status.json")]
    return sorted(runs, key=lambda run: (run.status.get("created", 0), run.path.name))


def environment() -> dict[str, Any]:
    """What a figure depends on besides the recipe: versions, hardware, code, command. Imports no torch."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str | None] = {}
    for package in ("attune", "torch", "transformers", "tokenizers", "peft", "numpy", "scikit-learn", "safetensors"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "host": socket.gethostname(),
        "command": sys.argv,
        "git": _git(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _git() -> dict[str, str] | None:
    """Commit of the code that runs, where it runs from a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--", "."], cwd=here, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "dirty": "yes" if dirty.stdout.strip() else "no"}
