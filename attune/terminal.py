"""What the command line draws: stages, progress, the comparison table. Everything but data goes to stderr."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console

from attune.show import Show

if TYPE_CHECKING:
    from attune.runs import Run
    from attune.train.loop import Progress

__all__ = ["Terminal", "out", "err"]


def _width(stream: TextIO) -> int | None:
    """Wide enough for the comparison table where no terminal sets a width; COLUMNS decides where it is set."""
    return None if stream.isatty() or "COLUMNS" in os.environ else 110


out = Console(highlight=False, soft_wrap=True, width=_width(sys.stdout))
err = Console(stderr=True, highlight=False, soft_wrap=True, width=_width(sys.stderr))

EVERY_SECONDS = 30
EVERY_SHARE = 0.1
LINE = 400
"""Characters of a line of an example that are shown before the rest is left out."""


class Terminal(Show):
    """A live bar on a terminal; one plain line now and then elsewhere."""

    def __init__(self, *, quiet: bool = False):
        self.quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._said = (0.0, 0.0)
        self._validation = ""

    def stage(self, name: str) -> None:
        self._close()
        self._said, self._validation = (0.0, 0.0), ""  # a further training counts its own steps
        if not self.quiet:
            err.print(f"[bold]{name}[/bold]")

    def say(self, line: str) -> None:
        if not self.quiet:
            err.print(f"  {line}", markup=False)

    def preview(self, text: str) -> None:
        if not self.quiet and text:
            err.print("  what is trained on (the supervised part in ⟦ ⟧):", markup=False)
            for line in text.splitlines():
                err.print(f"    {line if len(line) <= LINE else line[:LINE] + ' [...]'}", markup=False)

    def step(self, progress: Progress, total: int, row: dict[str, Any]) -> None:
        if self.quiet:
            return
        figures = {key.split("/")[1]: value for key, value in row.items() if key.startswith("validation/")}
        if figures:
            shown = [
                f"{key} {figures[key]:.4f}"
                for key in ("loss", "f1_macro", "f1_micro", "span_f1", "mse")
                if key in figures
            ]
            self._validation = "validation " + ", ".join(shown)
        text = f"loss {row['loss']:.4f}  {row['tokens_per_second']:,.0f} tok/s  {self._validation}"
        if err.is_terminal:
            if self._bar is None:
                self._open(total)
            self._bar.update(self._task, completed=progress.step, total=total, text=text)
            if progress.step >= total or progress.stopped:
                self._close()
            return
        share, now = progress.step / total, time.monotonic()
        last_share, last_time = self._said
        if (
            progress.step == total
            or share - last_share >= EVERY_SHARE
            or now - last_time >= EVERY_SECONDS
            or progress.stopped
        ):
            self._said = (share, now)
            print(f"  step {progress.step}/{total}  {text}", file=sys.stderr, flush=True)

    def table(self, table: Any) -> None:
        if not self.quiet:
            err.print(table)

    def results(self, run: Run, results: Any) -> None:
        self._close()
        if self.quiet:
            return
        from attune.evaluate.report import summary_table

        err.print()
        err.print(summary_table(results))
        verdict = results["verdict"]
        err.print(f"\n[bold]Verdict: {verdict['word']}.[/bold] ", end="")
        err.print(verdict["sentence"], markup=False)
        err.print(f"Report: {run.path / 'report.html'}", markup=False)

    def _open(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("  step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=err,
        )
        self._bar.start()
        self._task = self._bar.add_task("train", total=total, text="")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
