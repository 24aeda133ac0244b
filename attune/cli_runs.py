"""Commands on runs that are there: talk to one, look at one, list them, compare two."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attune.cli_options import Json, Out, RunDir

__all__ = ["chat", "show", "ls", "compare"]


def chat(
    run: RunDir,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=8192, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=5, help="0 always takes the likeliest token; else as it was evaluated.")
    ] = None,
) -> None:
    """Talk to a run's model; a classifier or tagger labels each line. Reads plain lines when there is no terminal."""
    from attune.generate.chat import chat as talk
    from attune.generate.chat import classify_loop
    from attune.records import Message
    from attune.tuned import load

    tuned = load(run)
    if tuned.writes:
        drawn = tuned.recipe.evaluate.temperature if temperature is None else temperature
        talk(tuned.engine, tuned.prompt_ids, max_new_tokens=max_new_tokens, temperature=drawn)
    elif tuned.task in ("classification", "multilabel"):
        classify_loop(lambda text: tuned.predict([text]).scores[0], tuned.labels)  # type: ignore[index]
    else:
        for line in sys.stdin:
            if line.strip():
                text = tuned.prepared([Message("user", line.strip())]).text
                answer = tuned.predict([text]).outputs[0]
                shown = (
                    [[text[span.start : span.end], span.label] for span in answer]
                    if tuned.task == "tagging"
                    else answer
                )
                print(json.dumps(shown, ensure_ascii=False), flush=True)


def show(run: RunDir, as_json: Json = False) -> None:
    """What a run is and what came of it."""
    from attune.evaluate.forgetting_view import matrix_tables
    from attune.evaluate.report import summary_table
    from attune.runs import Run
    from attune.terminal import out

    found = Run(run)
    evaluated = (found.path / "evaluation" / "results.json").exists()
    if as_json:
        print(
            json.dumps(
                {"run": str(found.path), "status": found.status, "metrics": found.metrics if evaluated else {}},
                ensure_ascii=False,
            )
        )
        return
    status = found.status
    out.print(f"{found.path}: {status['state']}" + (f" ({status['why']})" if status.get("why") else ""), markup=False)
    for stage in found.stages:
        out.print(f"  {stage.path.name}: {stage.status['state']}", markup=False)
    if evaluated:
        results: Any = found.results
        for table in matrix_tables(results["forgetting"]) if results.get("forgetting") else []:
            out.print(table)
        out.print(summary_table(results))
        out.print(f"Verdict: {results['verdict']['word']}. {results['verdict']['sentence']}", markup=False)
        out.print(f"Report: {found.path / 'report.html'}", markup=False)


def ls(out: Out = Path("runs"), as_json: Json = False) -> None:
    """The runs of a folder, oldest first."""
    from rich.table import Table

    from attune.runs import list_runs
    from attune.terminal import out as console

    rows = []
    for found in list_runs(out):
        evaluated = (found.path / "evaluation" / "results.json").exists()
        results = found.results if evaluated else {}
        key = results.get("primary")
        value = results["systems"][0]["metrics"].get(key, {}).get("value") if evaluated else None
        rows.append(
            {
                "run": found.path.name,
                "state": found.status["state"],
                "base": results.get("base"),
                "metric": key,
                "value": value,
                "verdict": (results.get("verdict") or {}).get("word"),
            }
        )
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    if not rows:
        print(f"no runs in {out}", file=sys.stderr)
        return
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(
            *(
                "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
                for value in row.values()
            )
        )
    console.print(table)


def compare(first: RunDir, second: RunDir, as_json: Json = False) -> None:
    """Two runs on the same test rows: the difference of their main figure, with its interval and p."""
    from attune.evaluate.compare import compare as compare_runs
    from attune.runs import Run

    found = compare_runs(Run(first), Run(second))
    print(json.dumps(found, ensure_ascii=False) if as_json else found["sentence"])
