"""The example data and recipes of the written tasks: made by their generator, and each runs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from attune import flow, flow_data, plugins
from attune.recipe import Recipe
from attune.tuned import load

ROOT = Path(__file__).resolve().parents[2]
TASKS = ["summarize", "translate", "answer", "extract", "rewrite", "chat"]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_files_are_what_the_generator_makes() -> None:
    folder = ROOT / "examples" / "tasks"
    spec = importlib.util.spec_from_file_location("generate_tasks", folder / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    made = generate.files()
    assert {path.name for path in folder.iterdir() if path.suffix in (".json", ".jsonl")} == set(made)
    for name, text in made.items():
        assert (folder / name).read_text(encoding="utf-8") == text, name
        rows = text.splitlines()
        assert name.endswith(".schema.json") or (len(rows) >= 60 and len(set(rows)) == len(rows)), name


@pytest.mark.parametrize("task", TASKS)
def test_the_recipe_is_told_what_auto_finds(task: str) -> None:
    """Each recipe passes everything before the first step, and its columns alone would have chosen the template."""
    shown = flow_data.rehearse(f"recipes/tasks/{task}.yaml")
    told = plugins.get("template", task)().instruction  # type: ignore[attr-defined]
    first = json.loads((ROOT / "examples" / "tasks" / f"{task}.jsonl").read_text().splitlines()[0])
    assert "⟦" in shown and isinstance(first, dict) and callable(told)
    words = {"extract": "JSON Schema", "rewrite": "formal English", "translate": "from German to English"}
    assert words.get(task, "") in shown
    auto = {"data.template": "auto", "data.json_schema": None}
    assert flow_data.rehearse(f"recipes/tasks/{task}.yaml", {**auto}).count("⟦") >= 1


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_recipe_runs_to_its_report(task: str, tmp_path: Path) -> None:
    short = {
        "train.max_steps": 3, "train.batch_size": 4, "evaluate.baselines": [], "evaluate.generate_rows": 4,
        "evaluate.bootstrap": 100, "evaluate.max_new_tokens": 12, "data.max_length": 512,
    }  # fmt: skip
    run = flow.train(Recipe.load(f"recipes/tasks/{task}.yaml", short), out=tmp_path)
    template = plugins.get("template", task)
    assert run.results["primary"] == template.primary  # type: ignore[attr-defined]
    shown = set(run.results["systems"][0]["metrics"])
    assert shown <= set(template.metrics) and len(shown) >= 4  # type: ignore[attr-defined]
    assert template.primary in (run.path / "report.html").read_text()  # type: ignore[attr-defined]
    # what chat sends for a bare text is what was measured
    tuned = load(run)
    sample = run.results["samples"][0]
    if task != "chat":
        from attune.data.templates.base import source_text
        from attune.records import Message, Record

        bare = source_text(Record("x", (Message("user", sample["prompt"]),)))
        assert tuned.prompt_ids([Message("user", bare)]) == tuned.renderer.prompt_ids(
            [Message("user", sample["prompt"])]
        )
