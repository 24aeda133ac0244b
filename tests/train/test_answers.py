"""The answers that a teacher writes, where the same teacher is asked more than once in a process."""

import json
from pathlib import Path
from typing import Any

import pytest

from attune.data.prepare import read
from attune.errors import DataError
from attune.recipe import Recipe
from attune.runs import Run
from attune.train.answers import answered


def test_the_same_teacher_may_be_asked_again_in_one_process(tiny: Any, tmp_path: Path) -> None:
    """By another stage, say; what it said the first time is in its journal, which nobody holds."""
    rows = [{"prompt": f"say {number} {'again ' * (number % 5)}", "completion": f"{number}"} for number in range(20)]
    (tmp_path / "say.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = tiny.base(tmp_path / "teacher", hidden=16)
    recipe = Recipe.load(
        {
            "data": {"path": str(tmp_path / "say.jsonl"), "split": {"near": False}},
            "objective": {"name": "distill", "teacher": teacher, "mode": "sequence", "max_new_tokens": 3},
        }
    )
    found = read(recipe, prepared=tmp_path / "prepared")
    run = Run.create(tmp_path / "runs" / "student", recipe.dump())
    for _ in range(2):  # an untrained teacher never comes to an end, which is an error of its own
        with pytest.raises(DataError, match="answered only 0 of"):
            answered(recipe, found, run)
