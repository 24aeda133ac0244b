"""`attune data label`: label texts in the terminal, or from lines on stdin."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attune.errors import UsageError

if TYPE_CHECKING:
    from attune.data.label.agreement import Figure

__all__ = ["data_label"]


def data_label(
    path: Annotated[str, typer.Argument(help="A file or folder of texts.", show_default=False)],
    labels: Annotated[str | None, typer.Option(help="The labels, by comma. More can be added on the way.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where answers are kept; the same file goes on.")] = Path(
        "labels.jsonl"
    ),
    annotator: Annotated[str | None, typer.Option(help="Who answers; else the login name.")] = None,
    task: Annotated[str | None, typer.Option(help="classification | multilabel | tagging")] = None,
    text: Annotated[str | None, typer.Option("--text", help="The column that is shown.")] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="A column with labels that some rows have already.")
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="What is asked next: mixed | uncertainty | entropy | diversity | committee | random")
    ] = "mixed",
    features: Annotated[str, typer.Option(help="What the model reads: tfidf | minilm (extra `offline`)")] = "tfidf",
    votes: Annotated[int, typer.Option(min=1, help="How many annotators label each text.")] = 1,
    prelabels: Annotated[bool, typer.Option(help="Show what the model would say.")] = True,
    adjudicate: Annotated[
        bool, typer.Option("--adjudicate", help="Settle texts on which annotators disagree.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the labelled texts here, as data for training, and end.")
    ] = None,
    agreement: Annotated[bool, typer.Option("--agreement", help="Say how far annotators agree, and end.")] = False,
    advice: Annotated[bool, typer.Option("--advice", help="Say whether more labels are worth it, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --export, --agreement or --advice: one JSON object on stdout.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Where chance starts.")] = 0,
) -> None:
    """Label texts, the most telling first, with pre-labels from what was labelled so far; every answer is saved."""
    from attune.data.label.session import Session
    from attune.label_screen import Screen

    if sum((export is not None, agreement, advice)) > 1:
        raise UsageError("--export, --agreement and --advice each end the command", fix="give one of them")
    if as_json and not (export or agreement or advice):
        raise UsageError("--json goes with --export, --agreement or --advice")
    if out.exists() and Path(path).exists() and out.samefile(path):
        raise UsageError(f"{out} is the file to label", fix="choose another --out")
    if export or agreement:
        _report(path, out, export, text, target, as_json)
        return
    session = Session.open(
        path,
        out,
        annotator or _login(),
        labels=(labels or "").split(","),
        task=task,
        text=text,
        target=target,
        strategy=strategy,
        features=features,
        votes=votes,
        prelabels=prelabels,
        adjudicate=adjudicate,
        background=_interactive(),
        seed=seed,
    )
    if advice:
        made = session.stop_advice()
        facts = {"stop": made.stop, "sentence": made.sentence, "more": made.more}
        facts |= {key: _finite(getattr(made, key)) for key in ("rise", "low", "high")}
        print(json.dumps(facts, ensure_ascii=False) if as_json else made.sentence)
        return
    # What decides which texts there are is part of every command that goes on from here.
    words = ["attune", "data", "label", path, "--out", str(out), *_words({"--text": text, "--target": target})]
    more = {"--annotator": session.annotator, "--strategy": strategy if strategy != "mixed" else None}
    more |= {"--features": features if features != "tfidf" else None, "--votes": str(votes) if votes > 1 else None}
    flags = ["--no-prelabels"] * (not prelabels) + ["--adjudicate"] * adjudicate
    command = shlex.join([*words, *_words(more), *flags])
    Screen(session, command, shlex.join([*words, "--export", "labelled.jsonl"])).run()


def _words(options: dict[str, str | None]) -> list[str]:
    return [word for key, value in options.items() if value for word in (key, value)]


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise UsageError("who is labelling?", fix="--annotator NAME") from None


def _interactive() -> bool:
    import sys

    return sys.stdin.isatty() and sys.stdout.isatty()


def _report(path: str, out: Path, export: Path | None, text: str | None, target: str | None, as_json: bool) -> None:
    from attune.data.label.agreement import agreement
    from attune.data.label.decide import export as write
    from attune.data.label.decide import units_of
    from attune.data.label.items import load_texts
    from attune.data.label.store import Store

    store, texts = Store(out, write=False), load_texts(path, text=text, target=target)
    if store.torn:
        typer.echo(f"{out}: the last line was cut off by a crash and is left out: {store.torn[:80]}", err=True)
    if export:
        if export.exists() and any(export.samefile(one) for one in (out, Path(path)) if one.exists()):
            raise UsageError(f"{export} is one of the files to read", fix="choose another name")
        made = write(texts, store, export)
        facts = {"path": str(made.path), "written": made.written, "undecided": list(made.undecided)}
        if as_json:
            print(json.dumps({**facts, "strangers": made.strangers}, ensure_ascii=False))
            return
        print(f"{made.path}: {made.written:,} labelled texts")
        if made.undecided:
            print(f"left out, no majority: {len(made.undecided)} (settle them: --adjudicate)")
        if made.strangers:
            print(f"left out, not in {path}: {made.strangers} labelled texts")
        print(f"Next: attune run {shlex.quote(str(made.path))}")
        return
    found = agreement(units_of(store, texts))
    rows = [
        {"who": list(pair), "same": found.shares[pair], "kappa": _plain(figure)} for pair, figure in found.pairs.items()
    ]
    if as_json:
        whole = {"annotators": list(found.annotators), "cohen": rows, "alpha": _plain(found.alpha)}
        print(json.dumps({**whole, "fleiss": found.fleiss and _plain(found.fleiss)}, ensure_ascii=False))
        return
    if not rows:
        raise UsageError(f"no text of {out} has labels of two annotators", fix="label with --votes 2 and another name")
    print("agreement beyond chance (1 = full, 0 = chance), with 95 % intervals")
    for pair, figure in found.pairs.items():
        print(f"Cohen's kappa, {pair[0]} and {pair[1]}: {_said(figure)}; {found.shares[pair]:.1%} the same")
    if found.fleiss and len(found.annotators) > 2:
        print(f"Fleiss' kappa, all {len(found.annotators)}: {_said(found.fleiss)}")
    print(f"Krippendorff's alpha, all: {_said(found.alpha)}")
    if math.isfinite(found.alpha.value):
        level = found.alpha.value
        word = "reliable" if level >= 0.8 else "for tentative conclusions" if level >= 0.667 else "not reliable"
        print(f"That is {word} (Krippendorff: 0.8 and above is reliable, below 0.667 is not).")


def _said(figure: Figure) -> str:
    if not math.isfinite(figure.value):
        return f"not defined, everybody gave one label ({figure.items} texts)"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}), {figure.items} texts"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(figure: Figure) -> dict[str, Any]:
    return {key: _finite(getattr(figure, key)) for key in ("value", "low", "high", "items")}
