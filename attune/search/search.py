"""The search: trials trained side by side under a budget, and the best one held against the recipe itself."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attune import stopping
from attune.durable import take_lock, write_json, write_text
from attune.errors import AttuneError, DataError, Interrupted, MachineError, RecipeError, UsageError
from attune.recipe import Recipe
from attune.recipe.base import seconds
from attune.runs import Run
from attune.search import space as spaces
from attune.search import study as studies
from attune.search.costs import Clock
from attune.search.jobs import spawn, words_of_error
from attune.search.trials import Trials
from attune.search.worker import FACTS
from attune.show import Show

__all__ = ["Found", "search"]


@dataclass
class Found:
    """What a search came to."""

    path: Path
    state: str
    """done | interrupted."""
    best: Recipe | None
    """The winner as a recipe for `attune train`; also `best.yaml`."""
    run: Run | None
    """The winner's own run, with its weights: nothing is trained again."""
    trials: list[dict[str, Any]] = field(default_factory=list)
    """number, state, value, seconds, values, reason of every trial."""
    result: dict[str, Any] = field(default_factory=dict)
    """Winner and recipe on validation and test, and the sentence about them."""


def search(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    budget: str | None = None,
    trials: int | None = None,
    space: Iterable[str] | Mapping[str, Any] = (),
    workers: int | None = None,
    out: str | Path = "runs",
    show: Show | None = None,
) -> Found:
    """Look for better settings of a recipe on validation rows, then say on test rows whether the best one is better.

    A search that was stopped goes on: no finished trial is lost, an unfinished one continues from its checkpoint.
    `budget`, `trials`, `space` and `workers` stand for those keys of the recipe's `search` section.
    Raises: RecipeError for a space that does not fit; Interrupted after saving; AttuneError if the recipe itself fails.
    """
    show = show or Show()
    recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides)
    for notice in recipe.notices:
        show.say(notice)
    given = spaces.parsed(space)
    changes = {"budget": budget, "trials": trials, "workers": workers, "space": given or None}
    recipe = recipe.replace({f"search.{key}": value for key, value in changes.items() if value is not None})
    if recipe.train.budget is not None:
        show.say(f"train.budget is left out: {spaces.FIXED['train.budget']}")
        recipe = recipe.replace({"train.budget": None})
    _fits(recipe)
    if recipe.search.space:
        spaces.checked(recipe, recipe.search.space)  # before anything heavy
    folder = _open(recipe, Path(out))
    lock = take_lock(folder)
    try:
        return _Search(folder, recipe, show).run()
    finally:
        os.close(lock)


def _fits(recipe: Recipe) -> None:
    """Refuse what has no single validation figure to search by.

    Raises: RecipeError.
    """
    if recipe.stages:
        raise RecipeError(
            "a recipe with stages cannot be searched as a whole",
            where=recipe.where("stages"),
            why="each stage starts from the one before it, so a trial would train all of them",
            fix="search one stage as a recipe of its own",
        )
    if recipe.data.sources:
        raise RecipeError(
            "a mix of tasks cannot be searched",
            where=recipe.where("data.path"),
            why="its tasks have validation figures of their own: no one of them says which trial is best",
            fix="search one source as a recipe of its own",
        )


def _open(recipe: Recipe, out: Path) -> Path:
    """The folder of this search: a new one, or the one that it left unfinished."""
    same = {"space": recipe.search.space, "sampler": recipe.search.sampler, "pruner": recipe.search.pruner,
            "reduction": recipe.search.reduction, "recipe": recipe.fingerprint()}  # fmt: skip
    asked = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
    name, number = f"{recipe.run_name}-search", 1
    while (folder := out / (name if number == 1 else f"{name}-{number}")).joinpath("search.json").exists():
        if json.loads((folder / "search.json").read_text())["asked"] == asked:
            return folder
        if recipe.name is not None:
            raise UsageError(
                f"{folder} holds a search of a different recipe or space",
                fix="choose another name=, or --out; to continue that one, use its own recipe and space",
            )
        number += 1
    try:
        (folder / "trials").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot create {folder}", why=str(error), fix="choose another --out") from error
    write_text(folder / "recipe.yaml", recipe.dump())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = recipe.train.threads or max(1, cores // recipe.search.workers)
    facts = {"asked": asked, "state": "created", "created": time.time(), "seconds": 0.0, "threads": threads}
    write_json(folder / "search.json", facts)
    return folder


class _Search:
    """One session of a search over its folder."""

    def __init__(self, folder: Path, recipe: Recipe, show: Show):
        self.folder, self.recipe, self.show = folder, recipe, show
        self.settings = recipe.search
        self.clock = Clock(folder, seconds(self.settings.budget) if self.settings.budget else None)
        self.trials: Trials | None = None

    def run(self) -> Found:
        try:
            self.trials = self._prepare()
            asked = {"budget": self.clock.budget, "trials_asked": self.trials.most}
            if any(self.clock.known.get(key) != value for key, value in asked.items()) or not self._ended(self.trials):
                self.show.stage("search")
                self.trials.run()
            self._judge(self.trials)
            self.clock.save("done", **asked)
        except (KeyboardInterrupt, Interrupted):
            self._stop()
            self.clock.save("interrupted")
            self._report()
            signum = stopping.received[0] if stopping.received else 2
            ended = [trial for trial in self._table() if trial["state"] not in ("running", "paused")]
            raise Interrupted(
                f"search stopped after {len(ended)} trials; unfinished ones have saved a checkpoint",
                signum=signum,
                fix="run the same command again: it goes on from there",
            ) from None
        except BaseException:
            self._stop()
            self.clock.save("failed")
            raise
        return self._found("done", self.trials)

    def _ended(self, trials: Trials) -> bool:
        """Whether an earlier session came to the end, and left nothing unfinished."""
        return self.clock.known["state"] == "done" and not any(
            row["state"] in ("running", "paused") for row in trials.table()
        )

    def _stop(self) -> None:
        if self.trials is not None:
            self.trials.stop_all()

    def _table(self) -> list[dict[str, Any]]:
        return self.trials.table() if self.trials is not None else []

    def _prepare(self) -> Trials:
        """Read the data, settle the recipe and the space: once, in a process of its own."""
        self.show.stage("prepare")
        path = self.folder / "data" / FACTS
        if not path.exists():
            began = time.monotonic()
            (self.folder / "log.txt").touch()
            self._child("prepare")
            self.clock.save("prepared", prepare_seconds=round(time.monotonic() - began, 2))
        self.facts: dict[str, Any] = json.loads(path.read_text())
        self.show.say(self.facts["split"])
        base = self.recipe.replace({"objective.name": self.facts["objective"]}) if (
            self.recipe.objective.name == "auto"
        ) else self.recipe  # fmt: skip
        self.base = base.replace({"data.task": self.facts["task"], "train.threads": self.clock.known["threads"]})
        if self.settings.space:
            self.space = spaces.checked(self.base, self.settings.space, by_loss=self.facts["primary"] == "loss")
            self.reasons = dict.fromkeys(self.space, "asked for")
        else:
            layers = self.facts["layers"]
            table = spaces.usual(
                self.base, learning_rate=self.facts["learning_rate"], task=self.facts["task"], layers=layers
            )
            self.space = {key: one for key, (one, _) in table.items()}
            self.reasons = {key: why for key, (_, why) in table.items()}
        for key, one in self.space.items():
            self.show.say(f"{key}: {spaces.range_in_words(one)}  ({self.reasons[key]})")
        study = studies.opened(self.folder, self.settings, higher=self.facts["higher"])
        return Trials(self.folder, self.base, self.space, study, self.facts, self.clock, self.show)

    def _child(self, action: str, *names: str) -> None:
        """Run a worker to its end.

        Raises: what it raised.
        """
        process = spawn(action, self.folder, *names, log=self.folder / "log.txt")
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        if code:
            error = words_of_error(self.folder)
            kind = {3: DataError, 5: MachineError, 2: UsageError}.get(code, AttuneError)
            raise kind(error["what"], where=error.get("where"), why=error.get("why"), fix=error.get("fix"))

    def _judge(self, trials: Trials) -> None:
        """Write the best recipe, and measure it and the recipe itself on the test rows."""
        winner = trials.winner()
        if winner is None:
            raise AttuneError(
                "no trial finished",
                why="; ".join(f"{row['name']}: {row['state']}, {row['reason']}" for row in trials.table()[:3]),
                fix="a larger --budget, fewer train.epochs, or a larger retain.limit",
            )
        rows = trials.table()
        values = spaces.by_key(self.space, winner["values"])
        best = self.recipe.replace(values) if winner["number"] else self.recipe
        default = next(row for row in rows if row["number"] == 0)
        name = self.facts["primary"]
        head = (
            f"# Found by `attune search`: trial {winner['number']}, the best of {len(rows)} by validation {name}: "
            f"{winner['value']:.4f}"
        )
        compared = default["state"] in ("finished", "outside")
        if compared:
            head += f" (the recipe itself: {default['best']:.4f})"
        write_text(self.folder / "best.yaml", f"{head}.\n{best.dump()}")
        names = [winner["name"], *(["trial-0000"] if compared and winner["number"] else [])]
        result = self.clock.known.get("result") or {}
        if self.facts["rows"].get("test") or (self.recipe.data.test is not None):
            if result.get("trials") != names:
                self.show.stage("test")
                self._child("judge", *names)
                looks = self.clock.known.get("looks", 0) + 1
                found = json.loads((self.folder / "comparison.json").read_text())
                self.clock.save("judged", looks=looks, result={"trials": names, **found})
        else:
            self.clock.save("judged", result={"trials": names, "sentence": "There is no test part: whether the gain on "
                                         "validation rows is real cannot be said."})  # fmt: skip
        self._report()
        self.show.say(self.clock.known["result"]["sentence"])

    def _report(self) -> None:
        if self.trials is None or not self.trials.table():
            return
        from attune.search.report import write_page

        known = self.clock.known | {"seconds": self.clock.elapsed}
        known["importances"] = studies.importances(self.trials.study)
        write_page(self.folder, self.recipe, self.facts, self.space, self.reasons, known, self.trials.table())

    def _found(self, state: str, trials: Trials) -> Found:
        winner = trials.winner()
        best = Recipe.load(self.folder / "best.yaml")
        run = Run(self.folder / "trials" / winner["name"]) if winner else None
        return Found(self.folder, state, best, run, trials.table(), self.clock.known.get("result", {}))
