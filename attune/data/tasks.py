"""Several tasks in one training: each is read, divided and rendered by itself, then all share the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attune.data.dedupe import digest, normalise
from attune.data.examples import ExampleStore
from attune.data.mix import Joined, Mix, allotted
from attune.data.prepare import Read, read
from attune.data.prepared import Prepared, labels_of, render
from attune.data.templating import template_of
from attune.errors import RecipeError
from attune.records import LABEL_TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.objectives.base import Objective
    from attune.recipe import Recipe, Source
    from attune.records import Record

__all__ = ["recipe_of", "read_tasks", "render_tasks", "join_tasks", "evened", "ELSEWHERE"]

ELSEWHERE = "stands in held-out rows of another task"
"""Why a training row is left out that no task's own split would miss."""


def recipe_of(recipe: Recipe, source: Source) -> Recipe:
    """The recipe of one task alone: what the source leaves out is as in `data`."""
    data = recipe.data.model_dump(mode="json", exclude={"path", "mix"})
    own = source.model_dump(mode="json", exclude={"name", "weight"}, exclude_none=True)
    return recipe.model_copy(update={"data": type(recipe.data).model_validate({**data, **own})})


def read_tasks(
    recipe: Recipe,
    *,
    prepared: Path,
    ledger: Callable[[Recipe], Path],
    rejects: Path,
    usual: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Read]:
    """Every task of `data.path` by its name, read and divided by itself.

    A training row whose text stands in the held-out rows of another task is left out, so that no part of the figures
    is of texts that training showed. Raises: as `prepare.read`.
    """
    found: dict[str, Read] = {}
    for source in recipe.data.sources:
        own = recipe_of(recipe, source)
        found[source.title] = one = read(
            own,
            prepared=prepared,
            ledger=ledger(own),
            rejects=rejects.with_name(f"{rejects.stem}-{source.title}{rejects.suffix}"),
            usual=usual,
            say=say,
        )
        one.notices[:] = [f"{source.title}: {line}" for line in one.notices]
    held = {
        name: {_print(record) for part in (one.split.validation, one.split.test) for record in part}
        for name, one in found.items()
    }
    for name, one in found.items():
        others = set().union(*(prints for other, prints in held.items() if other != name))
        kept = [record for record in one.split.train if _print(record) not in others]
        if lost := len(one.split.train) - len(kept):
            one.manifest["excluded"] = {**one.manifest["excluded"], ELSEWHERE: lost}
            one.manifest["splits"]["train"] = len(kept)
            one.notices.append(f"{name}: {lost} training rows left out: their text {ELSEWHERE}")
            one.split = replace(one.split, train=kept)
    return found


def _print(record: Record) -> bytes:
    return digest(normalise(record.text or record.full_text))


def render_tasks(
    recipe: Recipe,
    found: Mapping[str, Read],
    tokenizer: PreTrainedTokenizerBase,
    make_objective: Callable[[list[str], str], Objective],
    *,
    config: Any,
) -> tuple[Prepared, int, Recipe]:
    """Records of every task -> examples of all; returns them, the length in use, and the recipe as now decided.

    Raises: RecipeError where one model cannot hold all tasks; as `prepare.render`.
    """
    kinds = {name: one.task for name, one in found.items()}
    shared = None
    first = next(iter(found))
    if any(make_objective([], kind).head != "lm" for kind in kinds.values()):
        if len(set(kinds.values())) > 1:
            told = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
            raise RecipeError(
                f"objective '{recipe.objective.name}' cannot learn tasks of different kinds together",
                where=recipe.where("objective.name"),
                why=f"{told}; a model with a head answers one kind, and its folder must open in one pipeline",
                fix="objective: sft with a base that writes text, or one run for each kind",
            )
        rows = {part: [r for one in found.values() for r in getattr(one.split, part)] for part in ("train", "test")}
        shared = labels_of(kinds[first], rows["train"], rows["test"])
    subs: dict[str, Prepared] = {}
    limits, sources = [], []
    for source in recipe.data.sources:
        name, one = source.title, found[source.title]
        own = recipe_of(recipe, source).replace({"data.task": one.task})
        several = name if len(found) > 1 else None
        subs[name], limit = render(own, one, tokenizer, make_objective, config=config, labels=shared, name=several)
        limits.append(limit)
        decided = {"name": name, "task": one.task, "instruction": subs[name].instruction or source.instruction}
        if one.task == "generation":
            decided["template"] = template_of(one.split.train)
        sources.append(source.model_copy(update=decided).model_dump(mode="json"))
    recipe = recipe.replace({"data.path": sources})
    return join_tasks(recipe, subs), max(limits), recipe


def join_tasks(recipe: Recipe, subs: dict[str, Prepared]) -> Prepared:
    """The tasks as one body of data, with how they share the steps."""
    mix, sources = recipe.data.mix, recipe.data.sources
    stores: dict[str, Any] = {}
    for part in ("train", "validation", "test"):
        if found := [one.stores[part] for one in subs.values() if part in one.stores]:
            even = part == "train" and mix.loss_per == "example"
            stores[part] = Joined([evened(store) for store in found] if even else found)
    sizes = [len(one.stores["train"]) for one in subs.values()]
    counts = allotted(sizes, [source.weight for source in sources], mix.temperature)
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    kinds = {one.task for one in subs.values()}
    whole = next(iter(subs.values()))
    single = kinds.pop() if len(kinds) == 1 else None
    heads = single in LABEL_TASKS and whole.instruction is None
    shown = {name: count / sum(counts) for name, count in zip(subs, counts)}
    told = ", ".join(f"{name} {share:.1%} of {size:,}" for (name, share), size in zip(shown.items(), sizes))
    return Prepared(
        task=single if heads or single == "text" else "generation",  # type: ignore[arg-type]
        labels=whole.labels if heads else [],
        train=_named(subs, "train"),
        validation=_named(subs, "validation"),
        test=_named(subs, "test"),
        clean_test_ids=[f"{name}/{number}" for name, one in subs.items() for number in one.clean_test_ids],
        stores=stores,
        renderer=whole.renderer,
        manifest=_manifest(subs, f"shares of a step: {told}", dict(zip(subs, sizes)), dict(zip(subs, counts))),
        show=lambda n: "\n".join(f"=== {name} ===\n{one.show(n)}" for name, one in subs.items()),
        tasks=subs,
        mix=Mix(parts, counts, separate=mix.batches == "by_task"),
    )


def _named(subs: Mapping[str, Prepared], part: str) -> list[Record]:
    """The records of a part of all tasks, each with its task's name and an id that no other task has."""
    return [
        replace(record, id=f"{name}/{record.id}", task=name)
        for name, one in subs.items()
        for record in getattr(one, part)
    ]


def evened(store: ExampleStore) -> ExampleStore:
    """The same examples, each with weights that sum to 1."""
    if not isinstance(store, ExampleStore):  # windows of a corpus have one length
        return store
    sums = np.add.reduceat(np.asarray(store.weights, dtype=np.float64), np.asarray(store.offsets[:-1]))
    weights = store.weights / np.repeat(np.where(sums > 0, sums, 1), np.diff(store.offsets))
    return store.reweighted(weights.astype(np.float32))


def _manifest(
    subs: Mapping[str, Prepared], shares: str, sizes: dict[str, int], per_epoch: dict[str, int]
) -> dict[str, Any]:
    """The manifests of all tasks: sums where there is one number, each task's own under `tasks`."""
    every = {name: one.manifest for name, one in subs.items()}
    first = next(iter(every.values()))

    def summed(key: str) -> dict[str, int]:
        total: Counter[str] = Counter()
        for manifest in every.values():
            total.update({name: count for name, count in manifest.get(key, {}).items() if isinstance(count, int)})
        return dict(total)

    dropped: Counter[str] = Counter()
    for manifest in every.values():
        dropped.update(manifest["counts"].get("dropped") or {})
    states = [manifest.get("prepared", {}).get("states", []) for manifest in every.values()]
    if any(state != states[0] for state in states):
        raise RecipeError(
            "steps of data.prepare learned something different from each task",
            why="one model goes through one list of steps when it is asked later",
            fix="prepare each task beforehand with `attune data prepare`, and name its folder as the path",
        )
    summaries = [f"{name}: {manifest['split']['summary']}" for name, manifest in every.items()]
    excluded = [manifest["split"].get("excluded", {}) for manifest in every.values()]
    return {
        "task": ", ".join(f"{name} ({one.task})" for name, one in subs.items()),
        "sources": [source for manifest in every.values() for source in manifest["sources"]],
        "counts": {**summed("counts"), "dropped": dict(dropped)},
        "splits": summed("splits"),
        "split": {"summary": "\n".join([*summaries, shares]), "excluded": excluded},
        "excluded": summed("excluded"),
        "unfit": summed("unfit"),
        "labels": sorted({label for one in subs.values() for label in one.labels}),
        "preflight": first["preflight"] if len(every) == 1 else _preflights([m["preflight"] for m in every.values()]),
        **({"prepared": first["prepared"]} if "prepared" in first else {}),
        "mix": {"summary": shares, "sizes": sizes, "per_epoch": per_epoch},
        "tasks": every,
    }


def _preflights(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    trains = [one["splits"]["train"] for one in facts if "splits" in one]
    if len(trains) < len(facts):  # windows of text: every token counts
        return dict(facts[0])
    keys = ("examples", "tokens", "supervised_tokens")
    over = sum(one["truncation"]["over"] for one in facts)
    return {"splits": {"train": {key: sum(one[key] for one in trains) for key in keys}}, "truncation": {"over": over}}
