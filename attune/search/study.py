"""Optuna's side of a search: the study in its SQLite file, the sampler, the pruner, and what is told to them."""

from __future__ import annotations

import hashlib
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from attune.recipe import Search

__all__ = ["FILE", "opened", "asked", "told", "running", "table", "percent", "importances"]

FILE = "study.db"
STARTUP = 5
"""Trials drawn evenly before TPE models them, the recipe itself counted."""
FIRST_RUNG = 20
"""Per cent of its own schedule after which a trial may first be pruned: past any warm-up of the usual ranges."""


def opened(folder: Path, settings: Search, *, higher: bool) -> Study:
    """The study of a search folder, made or found. Only the searching process writes to it; trials never open it.

    A rollback journal and full synchronisation: what was told survives a kill and a power cut.
    """
    import optuna
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    storage = RDBStorage(f"sqlite:///{folder / FILE}", engine_kwargs={"connect_args": {"timeout": 60}})
    storage.remove_session()
    storage.engine.dispose()

    @event.listens_for(storage.engine, "connect")
    def _safely(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA synchronous=FULL")

    return optuna.create_study(
        study_name="search",
        storage=storage,
        direction="maximize" if higher else "minimize",
        pruner=_pruner(settings),
        load_if_exists=True,
    )


def _pruner(settings: Search) -> Any:
    """Resource is the per cent of a trial's own schedule: a rate that has not come down yet shows little, at whatever
    number of steps. Source: Li et al. 2020 (arXiv:1810.05934), asynchronous successive halving."""
    from optuna import pruners

    if settings.pruner == "none":
        return pruners.NopPruner()
    if settings.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=FIRST_RUNG, max_resource=100, reduction_factor=settings.reduction)
    return pruners.SuccessiveHalvingPruner(min_resource=FIRST_RUNG, reduction_factor=settings.reduction)


def asked(study: Study, settings: Search, seed: int) -> Trial:
    """A new trial. What it draws depends on the seed, its number and what was told, never on the session."""
    study.sampler = _sampler(settings, seed, len(study.get_trials(deepcopy=False)))
    return study.ask()


def running(study: Study, settings: Search, seed: int) -> list[Trial]:
    """Trials that an earlier session began and did not end, to be gone on with."""
    from optuna.trial import Trial, TrialState

    found = []
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.sampler = _sampler(settings, seed, frozen.number)
        found.append(Trial(study, frozen._trial_id))
    return found


def _sampler(settings: Search, seed: int, number: int) -> Any:
    from optuna import samplers

    drawn = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")
    if settings.sampler == "random":
        return samplers.RandomSampler(seed=drawn)
    # grouped: keys that exist for one adapter only are modelled among the trials that have them
    return samplers.TPESampler(seed=drawn, n_startup_trials=STARTUP, multivariate=True, group=True)


def told(study: Study, trial: Trial, state: str, value: float | None, **facts: Any) -> None:
    """End a trial: `finished` with its best value, or `outside` (its `retain.limit`), `pruned`, `diverged`, `failed`
    with the reason in `facts`.

    The last four are all PRUNED to Optuna, so that the sampler learns to stay away; a trial without any value counts
    as the worst.
    """
    from optuna.trial import TrialState

    for key, fact in {"state": state, **facts}.items():
        trial.set_user_attr(key, fact)
    if state == "finished":
        study.tell(trial, value)
    else:
        study.tell(trial, state=TrialState.PRUNED)


def percent(step: int, total: int) -> int:
    """How far a trial is along its own schedule."""
    return max(1, math.floor(100 * step / max(1, total)))


def importances(study: Study, *, least: int = 4) -> dict[str, float]:
    """Share of the spread of values that each key explains, among finished trials; empty below `least` of them.

    Source: Hutter et al. 2014, fANOVA, as Optuna computes it.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    done: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    with_params = [trial for trial in done if trial.params]
    if len(with_params) < least or len({trial.value for trial in with_params}) < 2:
        return {}
    names = set.intersection(*(set(trial.params) for trial in with_params))
    varied = [name for name in names if len({str(trial.params[name]) for trial in with_params}) > 1]
    if not varied:
        return {}
    try:
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=sorted(varied))
    except (ValueError, RuntimeError, ZeroDivisionError):  # too little spread to say anything
        return {}
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def table(study: Study) -> list[dict[str, Any]]:
    """Every trial in plain words: what Optuna holds of it."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        facts = trial.user_attrs
        rows.append(
            {
                "number": trial.number,
                "name": f"trial-{trial.number:04d}",
                "state": facts.get("state") or ("paused" if facts.get("seconds") else "running"),
                "value": trial.value if facts.get("state") == "finished" else None,
                "best": facts.get("best"),
                "seconds": facts.get("seconds", 0.0),
                "share": facts.get("share", 0.0),
                "reason": facts.get("reason", ""),
                "values": facts.get("values", {}),
                "curve": sorted(trial.intermediate_values.items()),
            }
        )
    return rows
