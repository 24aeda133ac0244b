"""One process of a search: `python -m attune.search.worker ACTION FOLDER [TRIAL]`.

Every trial has a process of its own: torch's random state, thread pools, caches and a model that ran out of memory end
with it. The search talks to it through files (its run directory) and signals; when the search dies, its end of the pipe
on standard input closes, and the trial stops as SIGTERM would stop it: with a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import stopping
from attune.durable import take_lock, write_json, write_text
from attune.errors import AttuneError, DataError, MachineError
from attune.recipe import Recipe
from attune.runs import Run

if TYPE_CHECKING:
    from attune.data.prepare import Read

__all__ = ["main"]

FACTS, SNAPSHOT, ERROR = "facts.json", "snapshot.json", "error.json"
ANSWERS = Path("data") / "answers.json"
"""Where a run keeps its teacher's answers (`train.answers`), and a search those of all its trials."""


def main() -> None:
    """Do one action; the exit code is that of the error, and its words stand in FOLDER/error.json."""
    action, folder, *rest = sys.argv[1:]
    here = Path(folder)
    place = here / "trials" / rest[0] if action == "train" else here
    place.mkdir(parents=True, exist_ok=True)
    (place / ERROR).unlink(missing_ok=True)
    stopping.stop_in_order()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        actions: dict[str, Any] = {"prepare": prepare, "train": train, "judge": judge}
        actions[action](here, *rest)
    except AttuneError as error:
        facts = {"what": error.what, "where": error.where, "why": error.why, "fix": error.fix, "code": error.exit_code}
        write_json(place / ERROR, facts)
        sys.exit(128 + stopping.received[0] if stopping.received else error.exit_code)
    except KeyboardInterrupt:
        sys.exit(143)


def _stop_with_parent() -> None:
    """Wait for the end of standard input, which the search holds open; then stop in order."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def prepare(folder: Path) -> None:
    """Read and divide the data once for all trials, and settle what the recipe left open.

    The test part is looked at here for what any training looks at it for (rows that training must not hold, labels that
    it never saw) and is written nowhere: trials get train and validation rows only.
    """
    import torch

    from attune.data.prepared import labels_of
    from attune.evaluate.measure import watched
    from attune.flow_data import prepare_run
    from attune.model.build import build, trained_share
    from attune.model.load import load_config, load_tokenizer

    recipe = Recipe.load(folder / "recipe.yaml")
    tokenizer = load_tokenizer(recipe.model)
    found = None
    (folder / "data").mkdir(exist_ok=True)
    rows: dict[str, int] = {}
    if not _is_text(recipe):
        whole = _divided(folder, recipe)
        labels_of(whole.task, whole.split.train, whole.split.test)
        rows["test"] = len(whole.split.test)
        _keep(folder / "data", whole)
        found = _kept(folder / "data")
    scratch = folder / "trials" / "preparing"  # beside the trials, so that what it caches is found by all of them
    shutil.rmtree(scratch, ignore_errors=True)
    run = Run.create(scratch, recipe.dump())
    prepared, objective, settled = prepare_run(withheld(recipe), tokenizer, run=run, found=found)
    if (scratch / ANSWERS).exists():  # what a teacher wrote, once for all trials
        write_text(folder / ANSWERS, (scratch / ANSWERS).read_text(encoding="utf-8"))
    shutil.rmtree(scratch)
    if "validation" not in prepared.stores:
        raise DataError(
            "a search needs validation rows to choose by", fix="give data.validation, or data.split.validation above 0"
        )
    primary, higher = watched(recipe, prepared.task, objective.head)
    torch.set_num_threads(recipe.train.threads or 1)
    policy = build(settled, objective, tokenizer)
    rate = recipe.train.learning_rate or policy.adapter.usual_rate(trained_share(policy)[1])
    config = load_config(recipe.model).get_text_config()
    facts = {
        "task": prepared.task,
        "objective": settled.objective.name,
        "learning_rate": rate,
        "layers": getattr(config, "num_hidden_layers", None),
        "primary": primary,
        "higher": higher,
        "rows": {name: len(store) for name, store in prepared.stores.items()} | rows,
        "tokens_per_row": float(prepared.stores["train"].lengths.mean()),
        "sources": prepared.manifest["sources"],
        "split": prepared.manifest["split"]["summary"],
    }
    write_json(folder / "data" / FACTS, facts)


def train(folder: Path, trial: str) -> None:
    """Train one trial, or go on from its newest checkpoint. Its test part is withheld, and nothing is assessed."""
    from attune import flow

    _until_free(folder / "trials" / trial)
    recipe = Recipe.load(folder / "trials" / f"{trial}.yaml")
    found = None if _is_text(recipe) else _kept(folder / "data")
    own = folder / "trials" / trial / ANSWERS
    if (folder / ANSWERS).exists() and not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        write_text(own, (folder / ANSWERS).read_text(encoding="utf-8"))
    flow.train(recipe, out=folder / "trials", assess=False, found=found)


def _until_free(place: Path, *, most_seconds: float = 120) -> None:
    """Wait for a process of an earlier session that is still saving this trial's checkpoint."""
    end = time.monotonic() + most_seconds
    while True:
        try:
            os.close(take_lock(place))
            return
        except MachineError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def judge(folder: Path, winner: str, default: str = "") -> None:
    """Measure the best trial and the recipe itself on the test rows, once, and compare them row by row."""
    from attune import flow
    from attune.search.judge import judged

    facts = json.loads((folder / "data" / FACTS).read_text())
    for source in facts["sources"]:
        with open(source["path"], "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != source["sha256"]:
                raise DataError(
                    f"{source['path']} changed since the search began",
                    why="rows that trials learned from may now be test rows",
                    fix="restore it and run the same command again",
                )
    original = Recipe.load(folder / "recipe.yaml")
    found = None
    if not _is_text(original):
        found, kept = _divided(folder, original), _kept(folder / "data")
        if [row.id for row in found.split.train] != [row.id for row in kept.split.train]:
            raise DataError("the data is divided differently than when the search began", fix="search in another --out")
    for name in [winner, *([default] if default else [])]:
        run = Run(folder / "trials" / name)
        if (run.path / "evaluation" / "results.json").exists():
            continue
        trained = Recipe.load(run.path / "recipe.yaml")
        # The test part comes back; a length found from train and validation rows may not cut it.
        with_test = trained.replace({"data.test": original.data.test, "data.max_length": original.data.max_length})
        write_text(run.path / "recipe.yaml", with_test.dump())
        status = {key: fact for key, fact in run.status.items() if key != "data_hash"}
        write_json(run.path / "status.json", status)  # its tokens were those without a test part
        flow.evaluate(run, found=found)
    write_json(folder / "comparison.json", judged(folder, facts, winner, default))


def withheld(recipe: Recipe) -> Recipe:
    """The recipe without its test file. A test part divided from the data is left out of what trials are given."""
    return recipe.replace({"data.test": None})


def _divided(folder: Path, recipe: Recipe) -> Read:
    """The recipe's data, divided; the same rows every time, by a ledger."""
    from attune.data.prepare import read
    from attune.flow_data import data_key

    root = folder / "trials"
    ledger = root / ".splits" / f"{data_key(recipe)}.jsonl"
    ledger.parent.mkdir(parents=True, exist_ok=True)
    before = folder.parent / ".splits" / ledger.name
    if before.exists() and not ledger.exists():  # the split that other runs beside this search already have
        write_text(ledger, before.read_text(encoding="utf-8"))
    return read(recipe, prepared=root / ".prepared", ledger=ledger, rejects=folder / "rejects.jsonl")


def _is_text(recipe: Recipe) -> bool:
    """Pre-training reads its corpus itself, and has a test part only where a file is named."""
    return recipe.objective.name == "pretrain" or (recipe.objective.name == "auto" and recipe.data.task == "text")


def _keep(folder: Path, found: Read) -> None:
    """Write the train and validation rows, and what is known of them."""
    for name in ("train", "validation"):
        rows = getattr(found.split, name)
        lines = (json.dumps(row.to_dict()) + "\n" for row in rows)
        write_text(folder / f"{name}.jsonl", lines)
    held = {"test", "test_counts"}
    manifest = {key: value for key, value in found.manifest.items() if key not in held}
    manifest["splits"] = {name: n for name, n in manifest["splits"].items() if name != "test"}
    facts = {
        "task": found.task,
        "manifest": manifest,
        "notices": found.notices,
        "excluded": found.split.excluded,
        "statement": found.split.statement,
    }
    write_json(folder / SNAPSHOT, facts)


def _kept(folder: Path) -> Read:
    """What `_keep` wrote: data without a test part."""
    from attune.data.prepare import Read
    from attune.data.split import Split
    from attune.records import Record

    facts: dict[str, Any] = json.loads((folder / SNAPSHOT).read_text(encoding="utf-8"))
    parts = {}
    for name in ("train", "validation"):
        # not splitlines: it also cuts at U+2028 and the like, which stand inside texts
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
        parts[name] = [Record.from_dict(json.loads(line)) for line in lines if line]
    split = Split(
        train=parts["train"],
        validation=parts["validation"],
        test=[],
        excluded=[(row, why) for row, why in facts["excluded"]],
        clean_test_ids=[],
        statement=facts["statement"],
    )
    return Read(facts["task"], split, facts["manifest"], facts["notices"])


if __name__ == "__main__":
    main()
