"""The command line: a command is a few lines that call the function of the same name; nothing heavy loads before."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attune import __version__, stopping
from attune.cli_data import app as data_app
from attune.cli_distill import distill
from attune.cli_import import import_
from attune.cli_options import Budget, Goal, Json, Out, Overrides, Quiet, RunDir, Set, Target, Test, Validation
from attune.cli_plan import plan
from attune.cli_runs import chat, compare, ls, show
from attune.cli_search import search
from attune.errors import AttuneError, Interrupted, RecipeError

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
        if isinstance(error, RecipeError) and error.file:
            _of_another_tool(error, error.file)
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


def _of_another_tool(error: RecipeError, file: Path) -> None:
    """The way out where a file that is no recipe of attune is one of another tool."""
    from attune.interop.convert import tool_of

    if tool := tool_of(file):
        error.fix = f"this is a recipe of {tool}: attune import {file}"


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
    goal: Goal = None,
    budget: Budget = None,
    test: Test = None,
    validation: Validation = None,
    target: Target = None,
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


app.command()(chat)
app.command()(show)
app.command()(ls)
app.command()(compare)


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
    goal: Goal = None,
    target: Target = None,
    test: Test = None,
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
