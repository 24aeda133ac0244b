"""`attune data`: everything about data before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from attune.cli_curate import data_distill, data_review, data_synthesize
from attune.cli_label import data_label
from attune.cli_options import Columns, Json, Set, Target, Test

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Data before training: look, clean, redact, audit, label, make, forget.")
app.command("label")(data_label)
app.command("synthesize")(data_synthesize)
app.command("distill")(data_distill)
app.command("review")(data_review)


def _columns(pairs: list[str] | None) -> dict[str, str]:
    from attune.errors import UsageError

    for pair in pairs or []:
        if "=" not in pair:
            raise UsageError(f"--column {pair} is not ours=yours", fix="--column text=note")
    return dict(pair.split("=", 1) for pair in pairs or [])


def _source(path: str, columns: list[str] | None, target: str | None, test: str | None = None) -> Any:
    """A recipe file, or the recipe that a data file makes."""
    if path.endswith((".yaml", ".yml")):
        return path
    return {"data": {"path": path, "target": target, "columns": _columns(columns), "test": test}}


@app.command("check")
def data_check(
    path: Annotated[list[str], typer.Argument(help="Files or folders.", show_default=False)],
    to: Annotated[
        Path | None, typer.Option("--write", help="Write the normalised records here, as JSON lines.")
    ] = None,
    column: Columns = None,
    target: Target = None,
    format: Annotated[str, typer.Option(help="How the files are written.")] = "auto",
    on_bad_row: Annotated[str, typer.Option(help="error | skip")] = "error",
    max_drop: Annotated[float, typer.Option(help="Share of rows without label or answer that may be left out.")] = 0.05,
    rejects: Annotated[Path | None, typer.Option(help="Where rows that were left out are written.")] = None,
    as_json: Json = False,
) -> None:
    """Read every row strictly, in bounded memory, and say what was found; bad rows are named by file:line:column."""
    from dataclasses import asdict

    from attune.data.sources import check

    report = check(
        path,
        to,
        format=format,
        columns=_columns(column),
        target=target,
        on_bad_row=on_bad_row,
        max_drop=max_drop,
        rejects=rejects,
    )
    if as_json:
        print(json.dumps(asdict(report), ensure_ascii=False, default=str))
        return
    print(report.why)
    for key, value in report.counts.items():
        if not isinstance(value, dict):
            print(f"{key}: {value:,}")
        for reason, count in value.items() if isinstance(value, dict) else ():
            print(f"{key}: {count:,} x {reason}")
    for source in report.sources:
        print(
            f"{source.path}: {source.rows} rows, {source.bytes:,} bytes"
            + (f", {source.licence}" if source.licence else "")
        )


@app.command("show")
def data_show(
    path: Annotated[str, typer.Argument(help="A data file, or a recipe (.yaml).", show_default=False)],
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="How many examples.")] = 3,
    column: Columns = None,
    target: Target = None,
    set_: Set = None,
) -> None:
    """Examples as the model will see them, with the supervised part marked."""
    from attune import flow_data

    print(flow_data.rehearse(_source(path, column, target), set_ or [], n=n))


@app.command("prepare")
def data_prepare(
    path: Annotated[str, typer.Argument(help="A data file or folder, or a recipe (.yaml).", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder that keeps prepared data.")] = Path("prepared"),
    steps: Annotated[
        str | None, typer.Option("--steps", help="Steps in order, by comma; more options in a recipe: data.prepare.")
    ] = None,
    test: Test = None,
    column: Columns = None,
    target: Target = None,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", help="Say yes to what this step proposed. May be repeated.")
    ] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Clean, redact, filter and divide data, with a ledger of every change and an audit page."""
    from attune import flow_data
    from attune.terminal import Terminal

    overrides = [f"data.prepare=[{steps}]"] if steps else []
    show = Terminal(quiet=as_json)
    source = _source(path, column, target, test)
    made = flow_data.prepare(source, [*overrides, *(set_ or [])], out=out, accept=accept or [], show=show)
    if as_json:
        print(json.dumps({"folder": str(made.folder), **made.facts}, ensure_ascii=False))
        return
    for row in made.facts["steps"]:
        for question in row.get("questions", ()):
            print(f"{row['step']} asks: {question['text']} (yes: --accept {row['step']})")
    for name, rows in made.facts["rows"].items():
        print(f"{made.folder / name}.jsonl: {rows:,} of {made.facts['rows_before'][name]:,} rows")
    print(f"Ledger: {made.folder / 'ledger.jsonl'}")
    print(f"Audit: {made.folder / 'audit.html'}")
    print(f"Next: attune run {made.folder / 'train.jsonl'} --validation {made.folder / 'validation.jsonl'} "
          f"--test {made.folder / 'test.jsonl'}")  # fmt: skip


@app.command("audit")
def data_audit(
    path: Annotated[str, typer.Argument(help="A data file or folder, or a recipe (.yaml).", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for audit.html and audit.json.")] = Path("audit"),
    test: Test = None,
    column: Columns = None,
    target: Target = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Look at data as it is: balance, lengths, wrong labels, groups, short cuts, split; changes nothing."""
    from attune import flow_data
    from attune.terminal import Terminal

    result = flow_data.audit(_source(path, column, target, test), set_ or [], out=out, show=Terminal(quiet=as_json))
    print(json.dumps(result, ensure_ascii=False) if as_json else f"Audit: {out / 'audit.html'}")


@app.command("forget")
def data_forget(
    match: Annotated[str, typer.Option("--match", help="A name, an e-mail, a number: whose records.")],
    folders: Annotated[list[Path], typer.Argument(help="Folders of prepared data.", show_default=False)],
    source: Annotated[
        list[Path] | None, typer.Option("--source", help="Your own file (JSON lines or CSV) to rewrite too.")
    ] = None,
    runs: Annotated[list[Path] | None, typer.Option("--runs", help="A folder of runs: says which used them.")] = None,
    regex: Annotated[bool, typer.Option("--regex", help="The match is a regular expression.")] = False,
    suppression: Annotated[
        Path | None,
        typer.Option(help="List that keeps them from coming back; else suppression.json beside the prepared data."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Remove; without it nothing is changed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a person's records from prepared data and sources, and say which runs learned from them."""
    from attune.data.forget import forget
    from attune.flow_data import SUPPRESSION

    kept = suppression or _root(folders[0]) / SUPPRESSION
    report = forget(match, folders, regex=regex, sources=source or [], runs=runs or [], suppression=kept, apply=apply)
    if as_json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
        return
    for file, rows in report.files.items():
        print(f"{file}: {rows:,} rows {'removed' if apply else 'would be removed'}")
    for run in report.runs:
        print(f"run {run.run}: {run.why}")
    for title, files in (("by hand", report.by_hand), ("not searched, or not all of it", report.unsearched)):
        for file in files:
            print(f"{title}: {file}")
    if report.suppression is not None:
        print(f"List: {report.suppression} (a recipe that trains names it: data.suppression)")
    if not report.files:
        print("no record matches")
    elif not apply:
        print("Next: the same command with --apply")


def _root(prepared: Path) -> Path:
    """The folder in which `prepare` looks for its list, where one version of the data, or a file of it, is named."""
    folder = prepared.parent if prepared.is_file() else prepared
    return folder.parent if (folder / "facts.json").exists() else folder


@app.command("diff")
def data_diff(
    old: Annotated[Path, typer.Argument(help="Prepared data: its folder.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="Another one.", show_default=False)],
    n: Annotated[int, typer.Option("-n", min=0, max=1000, help="How many rows of each kind to show.")] = 5,
    as_json: Json = False,
) -> None:
    """What changed between two versions of prepared data: rows added, removed, moved, edited, relabelled; the steps."""
    from attune.data.versions import diff

    result = diff(old, new, shown=n)
    print(json.dumps(result, ensure_ascii=False) if as_json else result["text"])


@app.command("split")
def data_split(
    path: Annotated[str, typer.Argument(help="A data file.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl, validation.jsonl and test.jsonl.")] = Path(
        "split"
    ),
    validation: Annotated[float, typer.Option(help="Share of rows.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of rows.")] = 0.2,
    group: Annotated[str | None, typer.Option(help="A column whose equal values stay together.")] = None,
    column: Columns = None,
    target: Target = None,
    seed: Annotated[int, typer.Option(help="Where the hash starts.")] = 0,
) -> None:
    """Divide a file so that no duplicate, near duplicate or group stands in two parts. A ledger keeps it so."""
    from attune.data.sources import load_records
    from attune.data.split import split
    from attune.durable import write_text

    loaded = load_records(path, columns=_columns(column), target=target)
    out.mkdir(parents=True, exist_ok=True)
    made = split(
        loaded.records,
        validation=validation,
        test=test,
        stratify=loaded.task in ("classification", "multilabel"),
        group=group,
        seed=seed,
        ledger=out / "ledger.jsonl",
    )
    for name in ("train", "validation", "test"):
        rows = getattr(made, name)
        write_text(out / f"{name}.jsonl", "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows))
    print(made.statement["summary"])
