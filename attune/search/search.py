"""The search: trials trained side by side under a budget, and the best one held against the recipe itself."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import stopping
from attune.errors import AttuneError, DataError, Interrupted, MachineError, RecipeError, UsageError
from attune.recipe import Recipe
from attune.recipe.base import seconds
from attune.recipe.space import Range
from attune.runs import Run, take_lock, write_json, write_text
from attune.search import space as spaces
from attune.search import study as studies
from attune.search.costs import Costs
from attune.search.jobs import Job, spawn, tidy, words_of_error
from attune.search.worker import FACTS, withheld
from attune.show import Show

if TYPE_CHECKING:
    from optuna.study import Study

__all__ = ["Found", "search"]

POLL_SECONDS = 0.3
TRIALS = 20
"""Trials where neither their number nor a budget is given."""
MOST_MISSES = 12
"""Draws in a row that were tried before, or do not fit into the time left, before a search ends."""


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
        self.started = time.monotonic()
        self.known: dict[str, Any] = json.loads((folder / "search.json").read_text())
        self.budget = seconds(self.settings.budget) if self.settings.budget else None
        self.most = self.settings.trials or (TRIALS if self.budget is None else None)
        self.jobs: list[Job] = []

    @property
    def elapsed(self) -> float:
        """Seconds over all sessions."""
        return self.known["seconds"] + time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds for trials: what the budget leaves after the final test."""
        if self.budget is None:
            return float("inf")
        return self.budget - self.elapsed - self.costs.of_test(self.recipe, self.facts)

    def _save(self, state: str, **facts: Any) -> None:
        self.known = {**self.known, **facts, "state": state}
        write_json(self.folder / "search.json", {**self.known, "seconds": round(self.elapsed, 2)})

    # the session ----------------------------------------------------------------------------------------------------

    def run(self) -> Found:
        try:
            self._prepare()
            self._trials()
            self._judge()
            self._save("done")
        except (KeyboardInterrupt, Interrupted):
            self._stop_all()
            self._save("interrupted")
            self._report()
            signum = stopping.received[0] if stopping.received else 2
            ended = [trial for trial in self._table() if trial["state"] not in ("running", "paused")]
            raise Interrupted(
                f"search stopped after {len(ended)} trials; unfinished ones have saved a checkpoint",
                signum=signum,
                fix="run the same command again: it goes on from there",
            ) from None
        except BaseException:
            self._stop_all()
            self._save("failed")
            raise
        return self._found("done")

    def _prepare(self) -> None:
        """Read the data, settle the recipe and the space: once, in a process of its own."""
        self.show.stage("prepare")
        path = self.folder / "data" / FACTS
        if not path.exists():
            began = time.monotonic()
            (self.folder / "log.txt").touch()
            self._child("prepare")
            self._save("prepared", prepare_seconds=round(time.monotonic() - began, 2))
        self.facts: dict[str, Any] = json.loads(path.read_text())
        self.costs = Costs(self.known["prepare_seconds"], self.facts["rows"]["train"])
        self.show.say(self.facts["split"])
        base = self.recipe.replace({"objective.name": self.facts["objective"]}) if (
            self.recipe.objective.name == "auto"
        ) else self.recipe  # fmt: skip
        self.base = base.replace({"data.task": self.facts["task"], "train.threads": self.known["threads"]})
        if self.settings.space:
            self.space = spaces.checked(self.base, self.settings.space)
            self.reasons = dict.fromkeys(self.space, "asked for")
        else:
            layers = self.facts["layers"]
            table = spaces.usual(
                self.base, learning_rate=self.facts["learning_rate"], task=self.facts["task"], layers=layers
            )
            self.space = {key: one for key, (one, _) in table.items()}
            self.reasons = {key: why for key, (_, why) in table.items()}
        for key, one in self.space.items():
            self.show.say(f"{key}: {_shown(one)}  ({self.reasons[key]})")
        self.study: Study = studies.opened(self.folder, self.settings, higher=self.facts["higher"])

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

    # trials ---------------------------------------------------------------------------------------------------------

    def _trials(self) -> None:
        self.show.stage("search")
        for old in self._table():
            path = self.folder / "trials" / f"{old['name']}.yaml"
            if old["state"] in ("finished", "pruned") and path.exists():
                self.costs.learn(Recipe.load(path), old["seconds"], old["share"])
        waiting = self._unfinished()
        saved = time.monotonic()
        misses = 0
        while True:
            while len(self.jobs) < self.settings.workers:
                job = waiting.pop(0) if waiting else None
                if job is None:
                    if not self._may_ask() or misses >= MOST_MISSES:
                        break
                    job = self._ask()
                    if job is None:
                        misses += 1
                        continue
                elif self.left <= 0:
                    continue  # it stays unfinished, for a larger budget
                misses = 0
                self.jobs.append(job)
                job.start()
            if not self.jobs:
                return
            time.sleep(POLL_SECONDS)
            for job in list(self.jobs):
                self._follow(job)
            if self.left <= 0 and any(job.trial.number for job in self.jobs):
                for job in self.jobs:
                    if job.trial.number:  # without the recipe itself there is nothing to compare with
                        job.stop("paused")
            if time.monotonic() - saved > 5:
                saved = time.monotonic()
                self._save("running")

    def _may_ask(self) -> bool:
        asked = len(self.study.get_trials(deepcopy=False))
        if asked == 0:
            return True
        if self.most is not None and sum(1 for trial in self._table() if trial["state"] != "skipped") >= self.most:
            return False
        # while nothing has ended, how long a trial takes is not known: the recipe itself goes first under a budget
        return self.budget is None or (self.left > 0 and (self.costs.known or not self.jobs))

    def _unfinished(self) -> list[Job]:
        """Jobs for trials that an earlier session began: each goes on with its own values."""
        jobs = []
        for trial in studies.running(self.study, self.settings, self.recipe.seed):
            frozen = self.study.get_trials(deepcopy=False)[trial.number]
            made = self._job(trial)
            if made is None:
                continue
            made.before = float(frozen.user_attrs.get("seconds", 0.0))
            made.shown = frozen.last_step if frozen.last_step is not None else -1
            if reason := frozen.user_attrs.get("pruned"):
                self._end(made, "pruned", None, reason)
                continue
            self.show.say(f"{made.name} goes on{f' from {made.shown} % of its schedule' if made.shown > 0 else ''}")
            jobs.append(made)
        return jobs

    def _ask(self) -> Job | None:
        """The next trial, ready to start; None where it needs no training."""
        if not self.study.get_trials(deepcopy=False):
            own = spaces.of_recipe(self.base, self.space, learning_rate=self.facts["learning_rate"])
            self.study.enqueue_trial(own)
        return self._job(studies.asked(self.study, self.settings, self.recipe.seed))

    def _job(self, trial: Any) -> Job | None:
        """Draw a trial's values and write its recipe."""
        try:
            if trial.number == 0:  # the recipe itself
                own = spaces.of_recipe(self.base, self.space, learning_rate=self.facts["learning_rate"])
                _, values = spaces.draw(trial, self.base, self.space, only=own)
                recipe = self.base
            else:
                recipe, values = spaces.draw(trial, self.base, self.space)
        except RecipeError as error:
            facts = {"values": dict(trial.params), "seconds": 0.0, "reason": error.what}
            studies.told(self.study, trial, "failed", None, **facts)
            return None
        name = f"trial-{trial.number:04d}"
        ready = withheld(recipe).replace(
            {"name": name, "train.keep_checkpoints": 1, "evaluate.baselines": [], "evaluate.suites": []}
        )
        job = Job(self.folder, trial, values, ready, self.costs.work(ready))
        trial.set_user_attr("values", values)
        mark = ready.fingerprint()
        trial.set_user_attr("fingerprint", mark)
        for other in self.study.get_trials(deepcopy=False):
            same = other.number != trial.number and other.user_attrs.get("fingerprint") == mark
            if same and other.state.is_finished() and other.user_attrs.get("state") != "skipped":
                self._skip(trial, f"the same settings as trial {other.number}")
                return None
        if (
            trial.number
            and self.costs.of_trial(ready) > self.left
            and not (self.path_of(trial) / "checkpoints").exists()
        ):
            self._skip(
                trial, f"would take about {self.costs.of_trial(ready):.0f} s; {max(0, self.left):.0f} s are left"
            )
            return None
        write_text(self.folder / "trials" / f"{name}.yaml", ready.dump())
        return job

    def path_of(self, trial: Any) -> Path:
        return self.folder / "trials" / f"trial-{trial.number:04d}"

    def _skip(self, trial: Any, reason: str) -> None:
        """A draw that is not trained, and from which the sampler learns nothing."""
        from optuna.trial import TrialState

        for key, fact in {"state": "skipped", "reason": reason, "seconds": 0.0}.items():
            trial.set_user_attr(key, fact)
        self.study.tell(trial, state=TrialState.FAIL)

    def _follow(self, job: Job) -> None:
        """Report new evaluations, prune, and end the job if its process has ended."""
        assert job.process is not None
        ended = job.process.poll() is not None
        for at, value in job.evaluations(self.facts["primary"], self.facts["higher"]):
            job.trial.report(value, at)
            # the recipe itself is never cut short, nor the first few: nothing can be said without competitors
            if at < 100 and job.trial.should_prune() and job.trial.number >= self.settings.reduction:
                if job.verdict != "pruned":
                    reason = f"not among the best at {at} % of its schedule"
                    job.trial.set_user_attr("pruned", reason)
                    job.stop("pruned")
                    job.verdict = "pruned"
                break
        if not ended:
            return
        job.wait()
        self.jobs.remove(job)
        state, last, reason = job.outcome()
        if state == "again":
            self.show.say(f"{job.name} was killed; it goes on from its last checkpoint")
            job.before, job.retried, job.verdict = job.seconds, True, ""
            self.jobs.append(job)
            job.start()
            return
        if state == "paused":
            job.trial.set_user_attr("seconds", round(job.seconds, 1))
            return
        self._end(job, state, last, reason)

    def _end(self, job: Job, state: str, value: float | None, reason: str) -> None:
        took = round(job.seconds, 1)
        share = round(max(job.shown, 0) / 100, 2)
        if state in ("finished", "pruned"):
            self.costs.learn(job.recipe, took, share)
        if job.trial.number == 0 and state == "failed":
            raise AttuneError(f"the recipe itself does not train: {reason}", fix="put it right, then search")
        run = self._run_of(job)
        if run is not None and state in ("pruned", "diverged", "failed"):
            run.set_status(state, why=reason)
        best = value if value is not None else job.best
        facts = {"seconds": took, "reason": reason, "share": share, "best": best}
        studies.told(self.study, job.trial, state, value, **facts)
        ended = [row["name"] for row in self._table() if row["state"] in ("finished", "pruned", "diverged", "failed")]
        winner = self._winner()
        keep = {"trial-0000", *([winner["name"]] if winner else [])}
        tidy(self.folder, ended, keep=keep if self.settings.keep == "best" else None)
        self._tell(job, state, best, reason, winner)

    def _tell(self, job: Job, state: str, value: float | None, reason: str, winner: dict[str, Any] | None) -> None:
        name = self.facts["primary"]
        figure = "" if value is None else f" {name} {value:.4f}"
        said = f"{state}{f': {reason}' if reason else ''}"
        best = f"; best {winner['value']:.4f} (trial {winner['number']})" if winner else ""
        clock = f"{self.elapsed / 60:.1f} min"
        if self.budget is not None:
            clock += f" of {self.budget / 60:g}"
        settings = ", ".join(f"{key.split('.')[-1]} {_short(one)}" for key, one in job.values.items())
        title = "the recipe itself" if job.trial.number == 0 else settings
        self.show.say(f"trial {job.trial.number}:{figure}, {said}{best}; {clock}; {title}")

    def _run_of(self, job: Job) -> Run | None:
        return Run(job.path) if (job.path / "status.json").exists() else None

    def _stop_all(self) -> None:
        """Every running trial saves a checkpoint and ends; what it had reported stays reported."""
        for job in self.jobs:
            job.stop("paused")
        for job in self.jobs:
            job.wait()
            if job.verdict == "paused":
                job.trial.set_user_attr("seconds", round(job.seconds, 1))
        self.jobs = []

    # results --------------------------------------------------------------------------------------------------------

    def _table(self) -> list[dict[str, Any]]:
        return studies.table(self.study) if hasattr(self, "study") else []

    def _winner(self) -> dict[str, Any] | None:
        done = [row for row in self._table() if row["state"] == "finished"]
        if not done:
            return None
        sign = 1 if self.facts["higher"] else -1
        return max(done, key=lambda row: (sign * float(row["value"]), -int(row["number"])))

    def _judge(self) -> None:
        """Write the best recipe, and measure it and the recipe itself on the test rows."""
        winner = self._winner()
        if winner is None:
            raise AttuneError(
                "no trial finished", why=f"{len(self._table())} began", fix="a larger --budget, or fewer train.epochs"
            )
        rows = self._table()
        values = spaces.by_key(self.space, winner["values"])
        best = self.recipe.replace(values) if winner["number"] else self.recipe
        default = next(row for row in rows if row["number"] == 0)
        name = self.facts["primary"]
        head = (
            f"# Found by `attune search`: trial {winner['number']}, the best of {len(rows)} by validation {name}: "
            f"{winner['value']:.4f}"
        )
        if default["state"] == "finished":
            head += f" (the recipe itself: {default['value']:.4f})"
        write_text(self.folder / "best.yaml", f"{head}.\n{best.dump()}")
        names = [winner["name"], *(["trial-0000"] if default["state"] == "finished" and winner["number"] else [])]
        result = self.known.get("result") or {}
        if self.facts["rows"].get("test") or (self.recipe.data.test is not None):
            if result.get("trials") != names:
                self.show.stage("test")
                self._child("judge", *names)
                looks = self.known.get("looks", 0) + 1
                found = json.loads((self.folder / "comparison.json").read_text())
                self._save("judged", looks=looks, result={"trials": names, **found})
        else:
            self._save("judged", result={"trials": names, "sentence": "There is no test part: whether the gain on "
                                         "validation rows is real cannot be said."})  # fmt: skip
        self._report()
        self.show.say(self.known["result"]["sentence"])

    def _report(self) -> None:
        if not hasattr(self, "study") or not self._table():
            return
        from attune.search.report import write_page

        write_page(self.folder, self.recipe, self.facts, self.space, self.reasons, self.known | {
            "seconds": self.elapsed, "importances": studies.importances(self.study)}, self._table())  # fmt: skip

    def _found(self, state: str) -> Found:
        winner = self._winner()
        best = Recipe.load(self.folder / "best.yaml")
        run = Run(self.folder / "trials" / winner["name"]) if winner else None
        return Found(self.folder, state, best, run, self._table(), self.known.get("result", {}))


def _shown(one: Range | list[Any]) -> str:
    if isinstance(one, list):
        return " | ".join(str(spaces.label(choice)) for choice in one)
    return f"{_short(one.low)} to {_short(one.high)}{', log' if one.log else ''}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
