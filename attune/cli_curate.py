"""`attune data synthesize | distill | review`: records that a model writes, and what people decide of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attune.cli_options import Json

if TYPE_CHECKING:
    from attune.curate.writers import Writer

__all__ = ["data_synthesize", "data_distill", "data_review"]

Model = Annotated[str | None, typer.Option("--model", help="The endpoint's model, by the name the server knows.")]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", help="An OpenAI-compatible server; else OPENAI_BASE_URL. None is the default."),
]
FromRun = Annotated[Path | None, typer.Option("--run", help="Write with the model of this run instead of an endpoint.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option: --set per_chunk=5 --set endpoint.concurrency=2. May be repeated."),
]
Classes = Annotated[str | None, typer.Option("--classes", help="The classes, by comma.")]
Made = Annotated[Path, typer.Option("--out", help="Folder for records.jsonl, review.jsonl and the journal.")]


def data_synthesize(
    sources: Annotated[
        list[str], typer.Argument(help="Documents or folders: PDF, DOCX, HTML, Markdown, text.", show_default=False)
    ],
    task: Annotated[str, typer.Option("--task", help="qa | instruction | summary | classification")] = "qa",
    model: Model = None,
    base_url: BaseUrl = None,
    run: FromRun = None,
    classes: Classes = None,
    out: Made = Path("synthesized"),
    set_: Options = None,
    as_json: Json = False,
) -> None:
    """Turn documents into training records, each checked against the text it was made from; doubtful ones wait."""
    from attune.curate.synthesize import SynthesisOptions, synthesize

    given, endpoint = _options(set_)
    given = {"task": task, **given}
    if classes:
        labels = given.get("labels", {})
        given["labels"] = {"classes": _listed(classes), **labels} if isinstance(labels, dict) else labels
    options = _checked(SynthesisOptions, given)
    account = synthesize(sources, out, _writer(model, base_url, run, endpoint, out), options, say=_say(as_json))
    _told(account, account["records"], out, as_json)


def data_distill(
    path: Annotated[Path, typer.Argument(help="A file of unlabelled texts.", show_default=False)],
    classes: Annotated[str, typer.Option("--classes", help="The classes, by comma.")],
    column: Annotated[str, typer.Option("--text", help="The column that holds the text.")] = "text",
    model: Model = None,
    base_url: BaseUrl = None,
    run: FromRun = None,
    out: Made = Path("distilled"),
    set_: Options = None,
    as_json: Json = False,
) -> None:
    """Label texts by a model that answers several times; what it is unsure of waits for a person."""
    from attune.curate.labels import LabelOptions, distill_labels, unlabelled

    given, endpoint = _options(set_)
    options = _checked(LabelOptions, {"classes": _listed(classes), **given})
    writer = _writer(model, base_url, run, endpoint, out)
    account = distill_labels(unlabelled(path, column), out, writer, options, say=_say(as_json))
    _told(account, account["counts"], out, as_json)


def data_review(
    folder: Annotated[Path, typer.Argument(help="A folder of synthesize or distill.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Decide about records that wait: a (accept), r (reject), s (skip), q (quit), one line each; decisions hold."""
    from attune.curate.review import Review
    from attune.errors import UsageError

    if not (folder / "review.jsonl").exists():
        raise UsageError(f"{folder} has no review.jsonl", fix="name a folder of `attune data synthesize` or `distill`")
    review = Review(folder)
    waiting = review.pending()
    for number, candidate in enumerate(waiting, 1):
        record = candidate.record
        print(f"--- {number} of {len(waiting)}: {record.id} ({'; '.join(candidate.reasons)})", file=sys.stderr)
        print(_shown(record.text), file=sys.stderr)
        for completion in record.completions:
            print(f"=> {_shown(completion.text)}", file=sys.stderr)
        if record.label is not None:
            print(f"=> {_shown(str(record.label))}", file=sys.stderr)
        if text := candidate.evidence.get("text"):
            print(f"made from: {_shown(str(text))}", file=sys.stderr)
        print("a accept, r reject, s skip, q quit > ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer or answer.strip() == "q":
            break
        if answer.strip() in ("a", "r"):
            try:
                review.decide(record.id, "accepted" if answer.strip() == "a" else "rejected")
            except UsageError as error:
                print(error, file=sys.stderr)
    counts = review.export()
    _told({"counts": dict(counts)}, dict(counts), folder, as_json)


def _shown(text: str) -> str:
    """Text that somebody else wrote, with what could steer a terminal made visible."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def _listed(classes: str) -> list[str]:
    return [name.strip() for name in classes.split(",") if name.strip()]


def _options(pairs: list[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(options of the work, options of the endpoint) from `--set`.

    Raises: UsageError for what is no `key=value`.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from attune.errors import UsageError

    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, sign, text = pair.partition("=")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise UsageError(f"--set {pair} cannot be read", why=str(error).splitlines()[0]) from error
        if not sign or not key:
            raise UsageError(f"--set {pair} is not key=value", fix="--set per_chunk=5")
        at = found
        *above, last = key.split(".")
        for part in above:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise UsageError(f"--set {pair}: {part} has a value already", fix="give one of the two")
        at[last] = value
    endpoint = found.pop("endpoint", {})
    if not isinstance(endpoint, dict):
        raise UsageError(f"endpoint is a group of options, not {endpoint!r}", fix="--set endpoint.concurrency=2")
    return found, endpoint


def _checked(kind: Any, given: dict[str, Any]) -> Any:
    """Raises: UsageError in the words of the command line."""
    from pydantic import ValidationError

    from attune.errors import UsageError
    from attune.plugins import nearest

    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        known = list(kind.model_fields)
        if first["type"] == "extra_forbidden":
            raise UsageError(
                f"there is no option {key}{nearest(key, known)}", fix=f"one of: {', '.join(known)}"
            ) from error
        raise UsageError(f"{key or 'these options'}: {first['msg']}") from error


def _writer(model: str | None, base_url: str | None, run: Path | None, endpoint: dict[str, Any], out: Path) -> Writer:
    from attune.errors import UsageError

    if (run is None) == (model is None):
        raise UsageError("say who writes", fix="--model NAME --base-url URL, or --run RUN for a model of this machine")
    if run is not None:
        from attune.curate.writers import LocalWriter
        from attune.tuned import load

        if unknown := sorted(set(endpoint) - {"temperature", "max_tokens"}):
            raise UsageError(
                f"endpoint.{unknown[0]} has no meaning for a model of this machine",
                fix="one of: endpoint.temperature, endpoint.max_tokens",
            )
        return LocalWriter(load(run), journal=out / "journal", **endpoint)
    from attune.endpoint import Endpoint, EndpointOptions

    given = {"model": model, **({"base_url": base_url} if base_url else {}), **endpoint}
    return Endpoint(_checked(EndpointOptions, given), journal=out / "journal")


def _say(quiet: bool) -> Any:
    return (lambda line: None) if quiet else (lambda line: print(f"  {line}", file=sys.stderr))


def _told(account: dict[str, Any], counts: dict[str, int], out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"folder": str(out), **account}, ensure_ascii=False))
        return
    print(", ".join(f"{count:,} {status}" for status, count in counts.items()))
    for reason, count in account.get("reasons", {}).items():
        print(f"  {count:,} x {reason}")
    print(f"Records: {out / 'records.jsonl'}")
    if counts.get("pending"):
        print(f"Next: attune data review {out}")
