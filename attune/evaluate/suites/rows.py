"""A file of the user's own as a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic

from attune.evaluate.suites.base import Questions, Suite
from attune.plugins import Options


class Rows(Suite):
    """Rows of a file, read as training data is: a further test set of the same task, or of any other one.

    Raw text (task `text`) is measured by its perplexity, written answers and labels by the metrics of their task. A
    language model is asked for labels by prompting, without examples.
    """

    name = "rows"

    class Config(Options):
        path: str = pydantic.Field(min_length=1)
        """The file of rows. Keep it out of the training data: rows that stand there too are counted and told."""
        title: str | None = None
        """What its figures are called. null takes the file's name."""
        task: Literal["auto", "classification", "multilabel", "regression", "tagging", "generation", "text"] = "auto"
        """What is asked. `auto` decides from the columns."""
        format: str = "auto"
        """How the file is written, as `data.format`."""
        columns: dict[str, str] = {}
        """Which column holds which part, as `data.columns`."""
        target: str | None = None
        """The column to predict, as `data.target`."""
        template: str = "auto"
        """What written answers are for, as `data.template`."""
        instruction: str | None = None
        """The instruction before each text, as `data.instruction`."""
        metrics: list[str] | Literal["auto"] = "auto"
        """Figures to compute. `auto` means those of the task."""
        primary: str | None = None
        """The figure that stands for the suite. null means the main one of the task."""
        limit: int = pydantic.Field(200, ge=1)
        """Rows that are asked, evenly spaced over the file."""

    @property
    def label(self) -> str:
        return self.options.title or Path(self.options.path).name.split(".")[0]

    def load(self) -> Questions:
        import numpy as np

        from attune.data.sources import load_records
        from attune.data.templating import as_written_task
        from attune.evaluate.measure import PRIMARY, judged_by, metrics_for

        asked = self.options
        found = load_records(
            asked.path,
            format=asked.format,
            columns=dict(asked.columns),
            target=asked.target,
            task=None if asked.task == "auto" else asked.task,
        )
        chosen = np.unique(np.linspace(0, len(found.records) - 1, num=min(len(found.records), asked.limit)).astype(int))
        records = [found.records[number] for number in chosen]
        usual = PRIMARY[found.task]
        if found.task == "generation":
            how = {"template": asked.template, "instruction": asked.instruction}
            records = list(as_written_task(records, found, notices=[], **how))
            usual = judged_by(records)[1]
        metrics = [metric.name for metric in metrics_for(found.task, asked.metrics, records)]
        primary = asked.primary or (usual if usual in metrics else metrics[0])
        return Questions(found.task, records, [*metrics, *([primary] if primary not in metrics else [])], primary)
