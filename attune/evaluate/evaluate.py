"""The evaluation stage: the tuned model and every baseline on the same held-out rows, with intervals and a verdict."""

from __future__ import annotations

import datetime
import functools
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from attune import plugins
from attune.data.some import spread
from attune.errors import UsageError
from attune.evaluate.curves import course_of
from attune.evaluate.measure import PRIMARY, judged_by, metrics_for
from attune.evaluate.metrics.calibration import reliability
from attune.evaluate.metrics.counts import confusion, items, per_class
from attune.evaluate.predictions import Predictions
from attune.evaluate.retained import retained
from attune.evaluate.stats import Interval, Paired, bootstrap, paired
from attune.evaluate.suites.compared import compare_suites, suite_figures
from attune.evaluate.systems import answers_of, asked_rows, baseline_answers, tuned_answers
from attune.evaluate.tasks import Measured, measure_tasks
from attune.evaluate.verdict import verdict
from attune.records import Record, Span, rows_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from attune.data.prepared import Prepared
    from attune.objectives.base import Objective
    from attune.recipe import Recipe
    from attune.runs import Run

__all__ = ["evaluate_run"]


def evaluate_run(
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    *,
    say: Callable[[str], None] = lambda line: None,
    too_dear: Callable[[str], str | None] = lambda name: None,
) -> dict[str, Any]:
    """Everything the report shows, as `results.Results`. `too_dear` names baselines that there is no time for.

    Raises: UsageError if the run has neither test nor validation rows.
    """
    part = "test" if "test" in prepared.stores else "validation"
    if part not in prepared.stores:
        raise UsageError(
            f"{run.path} has no rows to evaluate on",
            why="neither a test nor a validation part",
            fix="set data.test or data.split.test",
        )
    if part == "validation":
        say("no test part: figures are on validation rows, which also chose the checkpoint, so they flatter")
    if prepared.tasks:
        found = measure_tasks(
            functools.partial(_measured, too_dear=too_dear), run, recipe, prepared, objective, tokenizer, part, say
        )
    else:
        found = _measured(run, recipe, prepared, objective, tokenizer, part, say, too_dear=too_dear)
    rows, primary, higher, asked = found.rows, found.primary, found.higher, found.asked
    # The test as it was given: steps that change what the model reads of it do not make it another one.
    rows_sha256 = prepared.manifest.get("held_out", {}).get(part) or rows_hash(asked)
    _keep_statistics(run, found, rows_sha256)
    history = list(run.history())
    facts = json.loads((run.path / "data" / "training.json").read_text())
    tuned = rows[0]["metrics"]
    undefined = {"value": None, "low": None, "high": None, "n": len(asked)}
    main = tuned.setdefault(primary, undefined)  # a correlation of constant answers is no number
    went = course_of(history, best_step=facts["best_step"], stopped=facts["stopped"])
    judged = verdict(
        primary,
        Interval._make(math.nan if main[key] is None else main[key] for key in Interval._fields),
        found.versus,
        higher_is_better=higher[primary],
        floor="majority" if "majority" in found.versus else None,
        curves=went.words,
        supervised_tokens=(_preflight(prepared) or {}).get("supervised_tokens"),
        stop_rate=found.worst("stop_rate", min),
        invalid_rate=found.worst("invalid_rate", max),
    )
    named = {f"{part}/{name}": figure for name, figure in tuned.items()}
    for task in found.tasks:
        named |= {f"{part}/{task['name']}/{name}": figure for name, figure in task["systems"][0]["metrics"].items()}
    best = next((row for row in history if row.get("step") == facts["best_step"]), {})
    for key, value in best.items():
        if key.startswith("validation/") and isinstance(value, float):
            size = len(prepared.stores["validation"])
            named.setdefault(key, {"value": value, "low": None, "high": None, "n": size})
    known = plugins.find("metric")
    measured = {*tuned, *(name for task in found.tasks for name in task["systems"][0]["metrics"])}
    figures: dict[str, Any] = {name: known[name]() for name in sorted(measured) if name in known}
    suites = compare_suites(run, recipe, objective, tokenizer, prepared.train, say=say)
    named |= suite_figures(suites)
    kept = retained(run, recipe, objective, tokenizer, facts.get("retain", {}), say=say)
    for line in kept["rows"] if kept else ():
        named[f"retain/{line['suite']}"] = {
            "value": line["points"],
            "low": line["low"],
            "high": line["high"],
            "n": line["n"],
        }
    excluded = prepared.manifest.get("excluded", {})
    unfit = prepared.manifest.get("unfit", {})
    counts = prepared.manifest["counts"]
    results: dict[str, Any] = {
        "run": run.path.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "task": prepared.manifest["task"] if prepared.tasks else prepared.task,
        "base": recipe.model.base,
        "method": {
            "adapter": recipe.adapter.name,
            "objective": recipe.objective.name,
            "trainable_parameters": facts["trained_weights"],
            "all_parameters": facts["weights"],
        },
        "verdict": {"word": judged.word, "sentence": judged.sentence, "evidence": judged.evidence, "ship": judged.ship},
        "course": went._asdict(),
        "primary": primary,
        "signatures": {name: metric.signature for name, metric in figures.items() if hasattr(metric, "signature")},
        "higher_is_better": higher,
        "metrics": named,
        "systems": rows,
        "tasks": found.tasks,
        "curves": history,
        "best_step": facts["best_step"],
        "suites": suites,
        "retained": kept,
        "samples": found.samples,
        "data": {
            "sources": prepared.manifest["sources"],
            "counts": {key: value for key, value in counts.items() if isinstance(value, int)},
            "drops": {**(counts.get("dropped") or {}), **excluded, **unfit},
            "leakage": prepared.manifest["split"]["summary"],
            "measured_rows": {"part": part, "n": len(asked), "sha256": rows_sha256},
        },
        "splits": prepared.manifest["splits"],
        "preflight": _preflight(prepared),
        "recipe": recipe.dump(),
        "environment": json.loads((run.path / "env.json").read_text()),
        "cost": {
            "training seconds": facts["seconds"],
            "training tokens": facts["tokens"],
            "training steps": facts["steps"],
            "peak memory (GiB)": facts["peak_memory_gib"],
            "device": f"{facts['device']}, {facts['threads']} threads, {facts['dtype']}, {facts['layout']}",
        },
        "plan": None,
        "next": [f"attune chat {run.path}", f"attune show {run.path}"],
    }
    return _finite(results)


def _measured(
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    say: Callable[[str], None],
    *,
    tuned: Any = None,
    base: Any = None,
    too_dear: Callable[[str], str | None] = lambda name: None,
) -> Measured:
    """The tuned model and every baseline on the rows of one task; `tuned` and `base` where they are loaded already."""
    records = list(getattr(prepared, part))
    asked = asked_rows(recipe, prepared, objective, records)
    if len(asked) < len(records):
        say(f"written answers are measured on {len(asked)} of {len(records)} {part} rows (evaluate.generate_rows)")
    if tuned is None:
        systems = tuned_answers(run, recipe, prepared, objective, tokenizer, part, records, asked)
    else:
        policy, layout = tuned
        systems = answers_of(policy, layout, recipe, prepared, objective, tokenizer, part, records, asked)
    systems += baseline_answers(recipe, prepared, objective, tokenizer, part, asked, say, base, too_dear)
    metrics = metrics_for(prepared.task, recipe.evaluate.metrics, asked)
    if base is not None:  # one of several tasks takes those of the list that fit it
        metrics = [metric for metric in metrics if prepared.task in metric.tasks] or metrics_for(
            prepared.task, records=asked
        )
    # The loss is compared too, but not every system has one: written answers are judged by what is written.
    usual = judged_by(asked)[1] if prepared.task == "generation" else PRIMARY[prepared.task]
    primary = recipe.evaluate.primary or usual
    if base is not None and primary not in [metric.name for metric in metrics_for(prepared.task, records=asked)]:
        primary = usual
    if primary not in [metric.name for metric in metrics]:
        metrics += metrics_for(prepared.task, [primary])
    rows, versus, tables = _compare(recipe, prepared, systems, metrics, primary, asked)
    return Measured(
        primary,
        {metric.name: bool(metric.higher_is_better) for metric in metrics},
        rows,
        versus,
        asked,
        _groups(asked, recipe.data.split.group),
        tables,
        _samples(recipe.evaluate.samples, prepared, systems, asked),
    )


# figures -------------------------------------------------------------------------------------------------------------


def _compare(
    recipe: Recipe,
    prepared: Prepared,
    systems: list[Predictions],
    metrics: list[Any],
    primary: str,
    asked: list[Record],
) -> tuple[list[dict[str, Any]], dict[str, Paired], dict[str, dict[str, np.ndarray]]]:
    """One `results.System` per system, the tuned one first; tuned minus each other one on the primary metric; and the
    statistics of every system by metric."""
    draws = recipe.evaluate.bootstrap
    clean = set(prepared.clean_test_ids)
    kept = np.array([record.id in clean for record in asked], dtype=bool) if clean else np.ones(len(asked), dtype=bool)
    groups = _groups(asked, recipe.data.split.group)
    clean_groups = None if groups is None else [group for group, one in zip(groups, kept) if one]
    rows, versus = [], {}
    tables: dict[str, dict[str, np.ndarray]] = {}
    for number, system in enumerate(systems):
        figures, clean_figures = {}, {}
        statistics = tables[system.system] = {}
        for metric in metrics:
            statistics[metric.name] = table = metric.statistics(asked, system)
            if not math.isfinite(metric.value(table)):
                continue
            figures[metric.name] = bootstrap(metric, table, n=draws, seed=recipe.seed, groups=groups)._asdict()
            if len(kept) and not kept.all() and kept.any():
                clean_figures[metric.name] = bootstrap(
                    metric, table[kept], n=draws, seed=recipe.seed, groups=clean_groups
                )._asdict()
        row: dict[str, Any] = {
            "system": system.system,
            "note": system.note,
            "seconds": round(system.seconds, 3),
            "trained_seconds": round(system.trained_seconds, 3) or None,
            "metrics": figures,
            "clean_metrics": clean_figures or None,
            "versus": None,
        }
        if prepared.task in ("classification", "multilabel"):
            row["per_class"] = per_class(asked, system)
            row["confusion"] = confusion(asked, system)
            row["calibration"] = reliability(asked, system) if prepared.task == "classification" else None
        if number and primary in figures:
            metric = next(metric for metric in metrics if metric.name == primary)
            pair = paired(
                metric, tables["tuned"][primary], statistics[primary], n=draws, seed=recipe.seed, groups=groups
            )
            if system.system != "tuned_generated":  # the same model, answering in another way
                versus[system.system] = pair
            row["versus"] = {"difference": pair.difference, "low": pair.low, "high": pair.high, "p": pair.p}
        rows.append(row)
    return rows, versus, tables


def _groups(records: list[Record], column: str | None) -> list[str] | None:
    """Which rows belong together (one person, one document): whole groups are resampled then, since their rows are not
    independent. None where no row names a group."""
    named = [record.meta.get(column or "group") for record in records]
    if all(name is None for name in named):
        return None
    return [f"row {number}" if name is None else f"group {name}" for number, name in enumerate(named)]


def _keep_statistics(run: Run, found: Measured, rows_sha256: str) -> None:
    """What `attune compare` pairs two runs by."""
    folder = run.path / "evaluation"
    folder.mkdir(exist_ok=True)
    ids = np.array([record.id for record in found.asked])
    facts: dict[str, Any] = {
        "ids": ids,
        "rows": np.array(rows_sha256),
        "answers": np.array(rows_hash(found.asked, answers_only=True)),
    }
    if found.groups is not None:
        facts["groups"] = np.array(found.groups)
    facts |= found.tables["tuned"]
    np.savez_compressed(folder / "statistics.npz", **facts)


def _samples(wanted: int, prepared: Prepared, systems: list[Predictions], asked: list[Record]) -> list[dict[str, Any]]:
    if not asked:
        return []
    by_name = {system.system: system for system in systems}
    base = next(
        (by_name[name] for name in ("zero_shot", "few_shot", "tfidf", "lexicon", "majority") if name in by_name), None
    )
    tuned = systems[0]
    made = []
    for number in spread(len(asked), wanted):
        record = asked[number]
        reference = record.completions[0].text if prepared.task == "generation" else record.label
        answer, other = tuned.outputs[number], base.outputs[number] if base else None
        exact = prepared.task != "generation" and prepared.task != "regression"
        made.append(
            {
                "id": record.id,
                "where": record.where,
                "prompt": record.text,
                "reference": _shown(reference, record),
                "base": None if base is None else _shown(other, record),
                "tuned": _shown(answer, record),
                "correct": items(answer) == items(reference) if exact else None,
                "base_correct": items(other) == items(reference) if exact and base else None,
                "changed": base is not None and other != answer,
            }
        )
    return made


def _shown(value: Any, record: Record) -> str:
    if isinstance(value, tuple):
        if not value:
            return "(none)"
        return ", ".join(
            f"{record.text[item.start : item.end]} [{item.label}]" if isinstance(item, Span) else str(item)
            for item in value
        )
    return "(no answer)" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _preflight(prepared: Prepared) -> dict[str, Any] | None:
    facts = prepared.manifest["preflight"]
    train = facts.get("splits", {}).get("train")
    if train is None:
        return None
    return {
        "supervised_tokens": train["supervised_tokens"],
        "all_tokens": train["tokens"],
        "truncated": facts["truncation"]["over"],
        "examples": train["examples"],
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN: undefined becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
