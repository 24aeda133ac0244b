"""The command line: a command is a few lines that call the function of the same name; nothing heavy loads before."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attune import __version__, stopping
from attune.cli_data import Json, Set
from attune.cli_data import app as data_app
from attune.cli_distill import distill
from attune.cli_import import import_
from attune.cli_plan import plan
from attune.cli_search import search
from attune.errors import AttuneError, Interrupted

__all__ = ["app", "main"]

app = typer.Typer(
    name="attune",
    help="Turns your data and a base language model into a specialised model, and proves that it is better.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Recipe overrides: train.epochs=2 data.test=test.csv", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", help="Folder that holds the runs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and the result.")]
RunDir = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]


def main() -> None:
    """Entry point: an AttuneError becomes its four parts and its exit code, never a traceback (but with --debug)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except AttuneError as error:
        if debug:
            raise
        if stopping.received and not isinstance(error, Interrupted):
            _stopped()
        print(f"attune: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code != 130:  # what typer makes of an interrupt
            raise
        _stopped()
    except Exception as error:
        if debug:
            raise
        if stopping.received:
            _stopped()
        print(
            f"attune: internal error: {type(error).__name__}: {error}\n"
            "  fix: this is a bug; run again with --debug and report what it prints",
            file=sys.stderr,
        )
        sys.exit(1)


def _stopped() -> None:
    """Say what ended the work, and end."""
    name = "SIGTERM" if stopping.received else "Ctrl-C"
    print(
        f"attune: stopped by {name}\n  fix: the same command goes on with a run that is not finished", file=sys.stderr
    )
    sys.exit(143 if stopping.received else 130)


def _version(value: bool) -> None:
    if value:
        print(f"attune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _finish(run: Any, as_json: bool) -> None:
    """The last lines: the result as JSON, or the next commands. Ranks that only compute say nothing."""
    if not run.writes:
        return
    results = run.results
    best = {
        row["system"]: {results["primary"]: row["metrics"][results["primary"]]["value"]}
        for row in results["systems"][1:]
        if results["primary"] in row["metrics"]
    }
    if as_json:
        final = {
            "run": str(run.path),
            "state": run.status["state"],
            "verdict": results["verdict"],
            "metrics": results["metrics"],
            "baselines": best,
            "next": results["next"],
        }
        print(json.dumps(final, ensure_ascii=False))
    else:
        for command in results["next"]:
            print(command)


@app.command()
def run(
    data: Annotated[str, typer.Argument(help="A data file or folder.", show_default=False)],
    goal: Annotated[
        str | None, typer.Option(help="What the model is for, in your words; held against what the data looks like.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time for everything, such as 10m or 2h.")] = None,
    test: Annotated[str | None, typer.Option(help="A file of held-out rows.")] = None,
    validation: Annotated[str | None, typer.Option(help="A file of validation rows.")] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    set_: Set = None,
    out: Out = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """From a data file to a tuned model and an honest report, without writing a recipe."""
    from attune import flow
    from attune.terminal import Terminal

    stopping.stop_in_order()
    done = flow.run(
        data,
        goal=goal,
        budget=budget,
        test=test,
        validation=validation,
        target=target,
        overrides=set_ or [],
        out=out,
        show=Terminal(quiet=quiet),
    )
    _finish(done, as_json)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe.yaml.", show_default=False)],
    overrides: Overrides = None,
    set_: Set = None,
    out: Out = Path("runs"),
    fork: Annotated[bool, typer.Option("--fork", help="Start a new numbered run where the name is taken.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe and the data, show samples, train nothing.")
    ] = False,
    no_evaluate: Annotated[bool, typer.Option("--no-evaluate", help="Stop after saving the model.")] = False,
    with_plan: Annotated[
        bool, typer.Option("--plan", help="Rehearse first: predict time and memory, and score that in the report.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a recipe to the end. An unfinished run of the same recipe goes on where it stopped."""
    from attune import flow, flow_data
    from attune.terminal import Terminal

    changes = [*(overrides or []), *(set_ or [])]
    stopping.stop_in_order()
    show = Terminal(quiet=quiet)
    if dry_run:
        flow_data.rehearse(recipe, changes, show=show)
        return
    done = flow.train(recipe, changes, out=out, fork=fork, assess=not no_evaluate, plan=with_plan, show=show)
    if not (done.path / "evaluation" / "results.json").exists():
        print(f"attune evaluate {done.path}")
    else:
        _finish(done, as_json)


@app.command()
def transfer(
    recipe: Annotated[str, typer.Argument(help="A recipe.yaml of several tasks.", show_default=False)],
    overrides: Overrides = None,
    set_: Set = None,
    out: Out = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the tasks of a recipe together and each alone, and say which are helped or harmed by the others."""
    from attune import flow_transfer
    from attune.terminal import Terminal

    stopping.stop_in_order()
    changes = [*(overrides or []), *(set_ or [])]
    done = flow_transfer.transfer(recipe, changes, out=out, show=Terminal(quiet=quiet))
    if as_json:
        print(json.dumps({"run": str(done.path), "transfer": done.results["transfer"]}, ensure_ascii=False))
    else:
        print(f"attune show {done.path}")


@app.command()
def evaluate(
    run: RunDir,
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", help="Only ask this: the name of a suite, or a file of rows or text. Repeatable."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a run's model and every baseline again, or ask it further suites, and rewrite its report."""
    from attune import flow
    from attune.terminal import Terminal

    stopping.stop_in_order()
    _finish(flow.evaluate(run, suites=suite or [], show=Terminal(quiet=quiet)), as_json)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def compare(first: RunDir, second: RunDir, as_json: Json = False) -> None:
    """Two runs on the same test rows: the difference of their main figure, with its interval and p."""
    from attune.evaluate.compare import compare as compare_runs
    from attune.runs import Run

    found = compare_runs(Run(first), Run(second))
    print(json.dumps(found, ensure_ascii=False) if as_json else found["sentence"])


@app.command()
def doctor(as_json: Json = False) -> None:
    """Whether this machine can do the work, and what to install if not; exit code 5 if it cannot."""
    from dataclasses import asdict

    from attune.doctor import doctor as examine

    checks = examine()
    if as_json:
        print(json.dumps([asdict(check) for check in checks], ensure_ascii=False))
    else:
        for check in checks:
            print(f"{check.state:8} {check.name}: {check.found}")
            if check.fix and check.state != "ok":
                print(f"{'':8}   fix: {check.fix}")
    if any(check.state == "fault" for check in checks):
        sys.exit(5)


@app.command()
def schema() -> None:
    """The JSON Schema of recipe.yaml, for editors."""
    from attune.recipe.help import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@app.command()
def explain(
    key: Annotated[str, typer.Argument(help="A recipe key, such as train.learning_rate or adapter.lora.")] = "",
) -> None:
    """What a recipe key means, its default and its choices."""
    from attune.recipe.help import explain as tell

    print(tell(key))


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="A data file or folder.", show_default=False)],
    file: Annotated[Path, typer.Option("--recipe", help="Where to write it.")] = Path("recipe.yaml"),
    goal: Annotated[
        str | None, typer.Option(help="What the model is for, in your words; held against what the data looks like.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    test: Annotated[str | None, typer.Option(help="A file of held-out rows.")] = None,
    set_: Set = None,
) -> None:
    """Write the recipe that `attune run` would choose, to be edited and trained."""
    from attune.durable import write_text
    from attune.errors import UsageError
    from attune.plan.choose import choose

    if file.exists():
        raise UsageError(f"{file} exists", fix="give another --recipe")
    chosen = choose(data, goal=goal, target=target, test=test, overrides=set_ or [])
    write_text(file, chosen.recipe.dump())
    for reason in chosen.lines():
        print(f"  {reason}", file=sys.stderr)
    print(f"attune train {file}")


app.command()(plan)
app.command()(search)
app.command()(distill)
app.command("import")(import_)

if __name__ == "__main__":
    main()
