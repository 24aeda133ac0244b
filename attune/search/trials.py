"""The trials of a search: asked for, trained side by side, followed, pruned, ended, as long as time is left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune.durable import write_text
from attune.errors import AttuneError, RecipeError
from attune.recipe import Recipe
from attune.runs import Run
from attune.search import space as spaces
from attune.search import study as studies
from attune.search.costs import Clock, Costs
from attune.search.jobs import Job, tidy
from attune.search.worker import withheld
from attune.show import Show

if TYPE_CHECKING:
    from optuna.study import Study

__all__ = ["Trials", "TRIALS"]

POLL_SECONDS = 0.3
TRIALS = 20
"""Trials where neither their number nor a budget is given."""
WHOLE = 3
"""So many first trials are never cut short: the recipe itself, and what the next ones are measured against."""
MOST_MISSES = 8
"""Draws in a row that were tried before, or do not fit into the time left, before a search ends."""


class Trials:
    """Everything between the first trial and the last, in one session. `base` is the recipe itself, settled."""

    def __init__(
        self,
        folder: Path,
        base: Recipe,
        space: spaces.Space,
        study: Study,
        facts: dict[str, Any],
        clock: Clock,
        show: Show,
    ):
        self.folder, self.base, self.space, self.study = folder, base, space, study
        self.facts, self.clock, self.show = facts, clock, show
        self.settings = base.search
        self.most = self.settings.trials or (TRIALS if clock.budget is None else None)
        self.costs = Costs(clock.known.get("prepare_seconds", 10.0), facts["rows"]["train"], facts["tokens_per_row"])
        self.jobs: list[Job] = []

    @property
    def left(self) -> float:
        """Seconds for trials: what the budget leaves after the final test."""
        if self.clock.budget is None:
            return float("inf")
        return self.clock.budget - self.clock.elapsed - self.costs.of_test(self.base, self.facts)

    def table(self) -> list[dict[str, Any]]:
        return studies.table(self.study)

    def winner(self) -> dict[str, Any] | None:
        """The best finished trial; the earliest of equal ones."""
        done = [row for row in self.table() if row["state"] == "finished"]
        if not done:
            return None
        sign = 1 if self.facts["higher"] else -1
        return max(done, key=lambda row: (sign * float(row["value"]), -int(row["number"])))

    def run(self) -> None:
        """Until the number of trials or the budget is reached."""
        for old in self.table():
            path = self.folder / "trials" / f"{old['name']}.yaml"
            if old["state"] in ("finished", "outside", "pruned") and path.exists():
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
                elif job.trial.number and self.left <= 0:
                    continue  # it stays unfinished, for a larger budget; the recipe itself always ends
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
                self.clock.save("running")
                for job in self.jobs:  # a search that is killed knows what its trials had cost
                    job.trial.set_user_attr("seconds", round(job.seconds, 1))

    def _may_ask(self) -> bool:
        asked = len(self.study.get_trials(deepcopy=False))
        if asked == 0:
            return True
        if self.most is not None and sum(1 for trial in self.table() if trial["state"] != "skipped") >= self.most:
            return False
        # while nothing has ended, how long a trial takes is not known: the recipe itself goes first under a budget
        return self.clock.budget is None or (self.left > 0 and (self.costs.known or not self.jobs))

    def _unfinished(self) -> list[Job]:
        """Jobs for trials that an earlier session began: each goes on with its own values."""
        jobs = []
        for trial in studies.running(self.study, self.settings, self.base.seed):
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
        trial = studies.asked(self.study, self.settings, self.base.seed)
        job = self._job(trial)
        if job is not None and trial.number and (needed := self.costs.of_trial(job.recipe)) > self.left:
            self._skip(trial, f"would take about {needed:.0f} s; {max(0, self.left):.0f} s are left")
            return None
        return job

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
            # also one that is being trained side by side: what is begun is not begun twice
            same = other.number < trial.number and other.user_attrs.get("fingerprint") == mark
            if same and other.user_attrs.get("state") != "skipped":
                self._skip(trial, f"the same settings as trial {other.number}")
                return None
        write_text(self.folder / "trials" / f"{name}.yaml", ready.dump())
        return job

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
            # asked of every trial, since each is measured against those that passed the same rung
            if at < 100 and job.trial.should_prune() and job.trial.number >= WHOLE:
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
        if state in ("finished", "outside", "pruned"):
            self.costs.learn(job.recipe, took, share)
        if job.trial.number == 0 and state == "failed":
            raise AttuneError(f"the recipe itself does not train: {reason}", fix="put it right, then search")
        run = self._run_of(job)
        if run is not None and state in ("pruned", "diverged", "failed"):
            run.set_status(state, why=reason)
        best = value if value is not None else job.best
        facts = {"seconds": took, "reason": reason, "share": share, "best": best}
        studies.told(self.study, job.trial, state, value, **facts)
        ended = [row["name"] for row in self.table() if row["state"] not in ("running", "paused", "skipped")]
        winner = self.winner()
        keep = {"trial-0000", *([winner["name"]] if winner else [])}
        tidy(self.folder, ended, keep=keep if self.settings.keep == "best" else None)
        self._tell(job, state, best, reason, winner)

    def _tell(self, job: Job, state: str, value: float | None, reason: str, winner: dict[str, Any] | None) -> None:
        name = self.facts["primary"]
        figure = "" if value is None else f" {name} {value:.4f}"
        said = f"{state}{f': {reason}' if reason else ''}"
        best = f"; best {winner['value']:.4f} (trial {winner['number']})" if winner else ""
        clock = f"{self.clock.elapsed / 60:.1f} min"
        if self.clock.budget is not None:
            clock += f" of {self.clock.budget / 60:g}"
        settings = ", ".join(f"{key.split('.')[-1]} {spaces.in_words(one)}" for key, one in job.values.items())
        title = "the recipe itself" if job.trial.number == 0 else settings
        self.show.say(f"trial {job.trial.number}:{figure}, {said}{best}; {clock}; {title}")

    def _run_of(self, job: Job) -> Run | None:
        return Run(job.path) if (job.path / "status.json").exists() else None

    def stop_all(self) -> None:
        """Every running trial saves a checkpoint and ends; what it had reported stays reported."""
        for job in self.jobs:
            job.stop("paused")
        for job in self.jobs:
            job.wait()
            if job.verdict == "paused":
                job.trial.set_user_attr("seconds", round(job.seconds, 1))
        self.jobs = []
