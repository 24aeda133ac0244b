"""One trial as a process: started, followed through its metrics, pruned, ended, and read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.recipe import Recipe
from attune.runs import Run
from attune.search.judge import figure_of
from attune.search.study import percent
from attune.search.worker import ERROR

if TYPE_CHECKING:
    from optuna.trial import Trial

__all__ = ["Job", "spawn", "words_of_error", "tidy"]

PATIENCE_SECONDS = 120
"""How long a trial may take to save after it was asked to stop, before it is killed."""


def spawn(action: str, folder: Path, *names: str, log: Path) -> subprocess.Popen[bytes]:
    """A worker process in a session of its own, so that Ctrl-C reaches only the search, which stops it in order."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "attune.search.worker", action, str(folder), *names],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        )


def words_of_error(place: Path) -> dict[str, Any]:
    """The error a worker left behind, or the last line it printed."""
    if (place / ERROR).exists():
        return json.loads((place / ERROR).read_text())
    log = place / "log.txt"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return {"what": lines[-1][:300] if lines else "it ended without a word", "why": None, "fix": None, "code": 1}


@dataclass
class Job:
    """A trial that is being trained."""

    folder: Path
    trial: Trial
    values: dict[str, Any]
    """The searched values, by key."""
    recipe: Recipe
    work: float
    """How much training it is: examples (or tokens) over its whole schedule."""
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    before: float = 0.0
    """Seconds it had in earlier sessions."""
    verdict: str = ""
    """Why it was asked to stop: `pruned`, or `paused`."""
    retried: bool = False
    best: float | None = None
    shown: int = -1
    """Per cent of its schedule at its last reported evaluation."""
    _size: int = field(default=-1, repr=False)
    _total: int | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"trial-{self.trial.number:04d}"

    @property
    def path(self) -> Path:
        return self.folder / "trials" / self.name

    @property
    def seconds(self) -> float:
        return self.before + (time.monotonic() - self.started if self.started else 0.0)

    def start(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        self.process = spawn("train", self.folder, self.name, log=self.path / "log.txt")

    def evaluations(self, primary: str, higher: bool) -> list[tuple[int, float]]:
        """New evaluations since the last look: (per cent of the schedule, best figure so far)."""
        metrics = self.path / "metrics.jsonl"
        size = metrics.stat().st_size if metrics.exists() else 0
        if size == self._size or not size:
            return []
        self._size = size
        if self._total is None:
            self._total = Recipe.load(self.path / "recipe.yaml").train.max_steps
        found = []
        best: float | None = None
        for row in Run(self.path).history():
            value = row.get(f"validation/{primary}")
            if not isinstance(value, float | int) or not self._total:
                continue
            best = value if best is None else max(best, value) if higher else min(best, value)
            at = percent(row["step"], self._total)
            if at > self.shown:
                found.append((at, float(best)))
                self.shown = at
        self.best = best if best is not None else self.best
        return found

    def stop(self, verdict: str) -> None:
        """Ask it to save and end."""
        if self.process is not None and self.process.poll() is None and not self.verdict:
            self.verdict = verdict
            self.process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Until it has ended; killed where it does not."""
        assert self.process is not None
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def outcome(self) -> tuple[str, float | None, str]:
        """(state, value, reason) of the ended process; `again` where it was killed from outside for the first time."""
        assert self.process is not None
        code = self.process.returncode
        if self.verdict == "pruned":
            return "pruned", None, f"not among the best at {self.shown} % of its schedule"
        if code == 0:
            facts = json.loads((self.path / "data" / "training.json").read_text())
            value = figure_of(facts)
            if value is None:
                return "failed", None, "its validation figure is undefined at every evaluation"
            limit, kept = self.recipe.retain.limit, facts.get("retain", {}).get("kept") or {}
            if limit is not None and (kept.get("drop") or 0.0) > limit:
                return "outside", value, f"forgets {kept['drop']:.2g} points, more than retain.limit {limit:g}"
            return "finished", value, "stopped early" if facts["stopped"] == "early" else ""
        if self.verdict == "paused":
            return "paused", None, ""
        if code < 0:
            if not self.retried:
                return "again", None, ""
            ended = signal.Signals(-code).name
            return "failed", None, f"killed twice ({ended}): out of memory?"
        error = words_of_error(self.path)
        reason = f"{error['what']}" + (f" ({error['why']})" if error.get("why") else "")
        return "diverged" if code == 6 else "failed", None, reason[:400]


def tidy(folder: Path, names: list[str], *, keep: set[str] | None) -> None:
    """Free the disk of ended trials: checkpoints always, the model too unless its trial is in `keep` (None: all)."""
    for name in names:
        path = folder / "trials" / name
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
        if keep is not None and name not in keep:
            shutil.rmtree(path / "model", ignore_errors=True)
