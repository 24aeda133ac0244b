"""The data desk: the steps of `data.prepare` over a divided set of records, with a ledger of every change.

The split comes first, on the records as they were read: adding or removing a step never moves a row between training
and test. Steps of scope `all` then run over every part, steps of scope `train` over the training part alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from attune import plugins
from attune.data.spool import ENCODE, Spool, SpoolWriter
from attune.data.steps import Context, Step
from attune.durable import fsync, write_json
from attune.errors import DataError, MachineError
from attune.records import Record

__all__ = ["Desk", "Prepared", "prepare_parts", "make_steps", "fits", "restored", "sweep", "through", "PARTS"]

PARTS = ("train", "validation", "test")
VERSION = 2
"""Raised when the same records and steps begin to give other files."""


@dataclass(frozen=True)
class Prepared:
    """Prepared data: a folder addressed by what it was made from."""

    address: str
    folder: Path
    parts: dict[str, Spool]
    facts: dict[str, Any]
    """`steps` (what each did and learned), `states` (what later requests must go through), `rows` of each part."""


def prepare_parts(
    parts: Mapping[str, Sequence[Record]],
    choices: Sequence[Any],
    context: Context,
    *,
    root: Path,
    identity: Mapping[str, Any],
    say: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """Run the steps, or take what the same steps made of the same records before.

    `identity` is plain JSON that names the records (hashes of the sources, how they were read and split). The folder
    below `root` appears whole or not at all.
    Raises: as `Desk.run`; MachineError if the folder cannot be written.
    """
    steps = make_steps(choices, context)
    made_by = [_made_by(step) for step in steps]
    facts = {"desk": VERSION, "steps": made_by, "seed": context.seed, "task": context.task}
    canonical = json.dumps({**facts, **identity}, sort_keys=True, ensure_ascii=False)
    address = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    folder = root / address
    sweep(root)
    if not (folder / "facts.json").exists():
        temporary = root / f".tmp-{address}-{os.getpid()}"
        try:
            desk = Desk(steps, temporary, say)
            made = desk.run(parts)
            rows = {name: len(spool) for name, spool in made.items()}
            hashes = {name: _sha256(temporary / f"{name}.jsonl") for name in (*made, "ledger")}
            result = {
                "address": address,
                "made_by": made_by,
                "made_from": identity,
                "rows_before": {name: len(parts[name]) for name in made},
                "rows": rows,
                "steps": desk.facts,
                "states": desk.states(),
                "sha256": hashes,
            }
            write_json(temporary / "facts.json", result)  # the last file: with it the folder is whole
            fsync(temporary)
            shutil.rmtree(folder, ignore_errors=True)  # a folder without facts.json is none of ours that counts
            os.replace(temporary, folder)
            fsync(root)
        except OSError as error:
            raise MachineError(
                f"cannot write the prepared data in {root}",
                why=str(error),
                fix="free disk space or choose another --out",
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    else:
        say(f"prepared before: {folder}")
    stored = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    spools = {name: Spool(folder / f"{name}.jsonl") for name in stored["rows"]}
    return Prepared(address, folder, spools, stored)


def _made_by(step: Step) -> dict[str, Any]:
    reads = [_sha256(one) if isinstance(one, Path) else one for one in step.reads()]
    made = {"step": step.name, "version": step.version, "options": step.options.model_dump(mode="json")}
    return {**made, "reads": reads} if reads else made


def restored(states: Sequence[Mapping[str, Any]], task: str) -> list[Step]:
    """The steps that requests to a tuned model go through, with what they had learned."""
    steps = []
    for row in states:
        plugin: Any = plugins.get("step", row["step"])
        step = plugin(plugin.Config.model_validate(row["options"]), Context(task=task, seed=row["seed"]))
        step.restore(row["state"])
        steps.append(step)
    return steps


def through(steps: Sequence[Step], record: Record) -> Record:
    """One request as the model is used to see it. A step that would leave it out does nothing."""
    for step in steps:
        change = step.apply(record, -1)
        if change is not None and change.record is not None:
            record = change.record
    return record


def sweep(root: Path) -> None:
    """Remove what processes that were killed left behind."""
    for left in root.glob(".tmp-*"):
        try:
            os.kill(int(left.name.rsplit("-", 1)[1]), 0)
        except ProcessLookupError:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            continue  # somebody else's


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fits(name: str, task: str) -> bool:
    """Whether a step makes sense for a task."""
    plugin: Any = plugins.get("step", name)
    return plugin.tasks is None or task in plugin.tasks


def make_steps(choices: Sequence[Any], context: Context) -> list[Step]:
    """The steps of a recipe's `data.prepare`, in its order.

    Raises: DataError if one makes no sense for the task.
    """
    steps = []
    for choice in choices:
        plugin: Any = plugins.get("step", choice.name)
        if not fits(choice.name, context.task):
            raise DataError(
                f"data.prepare: step '{choice.name}' is for {', '.join(plugin.tasks)} data, and this is {context.task}",
                fix="leave it out",
            )
        steps.append(plugin(choice.options, context))
    return steps


@dataclass
class Desk:
    """One pass of all steps. `parts` after `run` are the records as they go on."""

    steps: list[Step]
    folder: Path
    """Where parts and ledger are written; the caller renames it when all of it is there."""
    say: Callable[[str], None] = lambda line: None
    facts: list[dict[str, Any]] = field(default_factory=list)

    def run(self, parts: Mapping[str, Sequence[Record]]) -> dict[str, Spool]:
        """Raises: DataError if a step leaves nothing to train on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        now: dict[str, Sequence[Record]] = {name: parts[name] for name in PARTS if name in parts}
        with open(self.folder / "ledger.jsonl", "w", encoding="utf-8", errors="surrogatepass") as ledger:
            groups = list(_fused(self.steps))
            for number, group in enumerate(groups):
                if group[0].learns:
                    group[0].learn(now["train"])
                counts: list[Counter[str]] = [Counter() for _ in group]
                for name in now:
                    writer = SpoolWriter(self.folder / f".{number}-{name}.jsonl")
                    for record in _through(now[name], group, name == "train", ledger, counts):
                        writer.append(record)
                    made = writer.close()
                    if number and isinstance(old := now[name], Spool):
                        old.path.unlink()
                    now[name] = made
                for step, count in zip(group, counts):
                    self.facts.append({"step": step.name, "counts": dict(count), **step.facts()})
                    self.say(f"{step.name}: {_told(count)}")
                if not len(now["train"]):
                    raise DataError(
                        f"step '{group[-1].name}' of data.prepare leaves no training row",
                        fix="loosen its options, or leave it out",
                    )
            ledger.flush()
            os.fsync(ledger.fileno())
        return self._finished(now)

    def _finished(self, now: Mapping[str, Sequence[Record]]) -> dict[str, Spool]:
        parts = {}
        for name, records in now.items():
            path = self.folder / f"{name}.jsonl"
            if isinstance(records, Spool) and records.path.parent == self.folder:
                os.replace(records.path, path)
                parts[name] = Spool(path, records.offsets)
            else:  # no step at all
                writer = SpoolWriter(path)
                for record in records:
                    writer.append(record)
                parts[name] = writer.close()
        return parts

    def states(self) -> list[dict[str, Any]]:
        """The steps that later requests must go through too, with what they learned."""
        return [
            {
                "step": step.name,
                "options": step.options.model_dump(mode="json"),
                "seed": step.context.seed,
                "state": step.state(),
            }
            for step in self.steps
            if step.scope == "all"
        ]


def _fused(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps in runs that can share one pass: one that must learn first begins a new one."""
    group: list[Step] = []
    for step in steps:
        if step.learns and group:
            yield group
            group = []
        group.append(step)
    if group:
        yield group


def _through(
    records: Sequence[Record],
    steps: Sequence[Step],
    training: bool,
    ledger: IO[str],
    counts: Sequence[Counter[str]],
) -> Iterator[Record]:
    for number, record in enumerate(records):
        flow = [(record, number if training else -1)]
        for step, count in zip(steps, counts):
            after = []
            for one, position in flow:
                change = step.apply(one, position) if training else step.apply_held_out(one)
                if change is None:
                    after.append((one, position))
                    continue
                for entry in change.entries:
                    ledger.write(ENCODE({"id": one.id, "step": step.name, **_plain(entry)}) + "\n")
                    count[entry["action"]] += 1
                if change.record is not None:
                    after.append((change.record, position))
                after += [(new, -1) for new in change.added]
            flow = after
        yield from (one for one, _ in flow)


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(entry, default=lambda value: [value.start, value.end, value.label]))  # spans


def _told(counts: Counter[str]) -> str:
    words = {
        "edit": "edits",
        "detect": "places found",
        "suspect": "rows to look at",
        "drop": "rows left out",
        "label": "labels changed",
        "add": "rows added",
    }
    return ", ".join(f"{counts[kind]:,} {word}" for kind, word in words.items() if counts[kind]) or "nothing to change"
