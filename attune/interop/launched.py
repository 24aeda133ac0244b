"""A training command and what stands around it: environment, launcher, and the YAML it names."""

from __future__ import annotations

from pathlib import Path

from attune.interop.base import Draft, Rule, dropped
from attune.interop.common import ELSEWHERE, SPEED
from attune.interop.document import Given, Source, Unread
from attune.interop.reading import read_document
from attune.interop.shell import Command, options

__all__ = ["LAUNCHERS", "TABLE", "config_file", "source"]

LAUNCHERS = ("python", "python3", "accelerate", "torchrun", "deepspeed", "uv", "srun", "trl")
COUNTS = ("num_processes", "nproc_per_node", "NPROC_PER_NODE")
NODES = ("nnodes", "num_machines", "NNODES")

TABLE: dict[str, Rule] = {
    "launch.num_processes": Rule("train.batch_size", "devices; launch as many with torch.distributed.run"),
    "launch.nproc_per_node": Rule("train.batch_size", "devices; launch as many with torch.distributed.run"),
    "launch.*": dropped(SPEED),
    "env.NPROC_PER_NODE": Rule("train.batch_size", "devices; launch as many with torch.distributed.run"),
    "env.WANDB_*": dropped(ELSEWHERE),
    "env.HF_TOKEN": dropped("attune takes HF_TOKEN from the environment as well"),
    "env.*": dropped("a variable of the environment that attune does not read: " + SPEED),
    "": dropped("a word that belongs to no option; the other tool passes over it too"),
}


def source(command: Command, at: int, lists: frozenset[str], score: float, what: str) -> Source:
    """The recipe of a command whose own options begin behind word `at`."""
    given = [Given(name, word.value, word.where, f"env.{name}") for name, word in command.env.items()]
    given += [
        Given(f"launcher {option.key}", option.value, option.where, f"launch.{option.name}")
        for option in options(command.words[:at], frozenset())
        if option.name
    ]
    given += options(command.words[at + 1 :], lists)
    facts: dict[str, object] = {"directory": command.words[0].where}
    count, by = 1, ""
    for option in given:
        name = option.name.removeprefix("env.").removeprefix("launch.")
        number = _count(option.value)
        if option.name != name and name in (*COUNTS, *NODES) and number:
            count *= number
            by = option.key
    if by:
        facts["processes"] = (count, by)
    return Source(given, command.words[0].where, score, what, facts)


def _count(value: object) -> int | None:
    text = "" if isinstance(value, Unread) else str(value)
    return int(text) if text.isdigit() and 0 < int(text) < 1_000_000 else None


def config_file(draft: Draft, source: Source) -> None:
    """Lay the YAML that `--config` names below the command's own options; and note the number of processes."""
    for given in [item for item in draft.open if item.name in ("launch.num_processes", "launch.nproc_per_node",
                                                              "env.NPROC_PER_NODE", "env.NNODES", "launch.nnodes",
                                                              "launch.num_machines")]:  # fmt: skip
        if _count(given.value) is not None:
            draft.map(given, None, None, "so many devices: part of train.batch_size or train.batch_tokens")
    named = draft.one("config")
    if named is None or not isinstance(named.value, str):
        return
    folder = Path(source.where.rsplit(":", 1)[0]).parent
    for path in (folder / named.value, Path(named.value)):
        if path.is_file() and path.suffix in (".yml", ".yaml", ".json"):
            said = {given.name for given in draft.open if given.said}
            for given in read_document(path).settings:
                if given.name in said:
                    draft.open.append(given)
                    draft.drop(given, "the command line says it otherwise")
                else:
                    draft.open.append(given)
            draft.map(named, None, None, f"{path} was read; the command line wins")
            return
    draft.drop(named, f"{named.value} is not there to read")
    draft.need(
        "the whole recipe", f"{named.value}, which the command names, is missing here: import it beside this file"
    )
