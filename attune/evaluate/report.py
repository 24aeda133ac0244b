"""The report of a run: one page that opens from disk and loads nothing, the same as Markdown, and a terminal table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attune import charts, page, words
from attune.durable import write_text
from attune.evaluate.forgetting_view import matrix_view
from attune.evaluate.report_distilled import distilled_head, distilled_rows
from attune.evaluate.report_markdown import markdown
from attune.evaluate.report_retained import forgotten
from attune.evaluate.transfer_view import COLUMNS, NOTE, transfer_view

if TYPE_CHECKING:
    from rich.table import Table

    from attune.evaluate.results import Results, System

__all__ = ["write_report", "summary_table", "view"]

TONES = {"better": "tone-good", "no difference": "tone-warn", "worse": "tone-bad", "learned nothing": "tone-bad"}
SHARES = ("accuracy", "probability", "precision", "recall", "f1", "span", "exact", "rouge", "stop", "invalid", "ece")
"""Beginnings of the names of metrics that lie between 0 and 1."""


TASK_LINES = ("c1", "c2", "c3")
"""Colours of the tasks of one chart; more tasks get further charts."""


def write_report(results: Results, out_dir: Path) -> None:
    """Write `report.html` and `report.md` into a folder, each in one step.

    Raises: MachineError if they cannot be written.
    """
    shown = view(results)
    here = Path(__file__)
    html = page.render(here.with_name("report.html.jinja"), shown, script=here.with_name("report.js"))
    write_text(Path(out_dir) / "report.html", html)
    write_text(Path(out_dir) / "report.md", page.clean(markdown(shown)))


def summary_table(results: Results) -> Table:
    """Every system on the primary metric, for the terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{results['primary']} on the {_part(results)} rows", title_justify="left")
    for name in ("system", results["primary"], "95 % interval", "tuned minus it, p", "answering"):
        table.add_column(name, justify="left" if name == "system" else "right")
    for system in results["systems"]:
        figure = system["metrics"].get(results["primary"])
        cells = [
            system["system"],
            words.number(figure["value"] if figure else None),
            words.interval(figure),
            words.versus(system.get("versus")),
            words.seconds(system.get("seconds")),
        ]
        style = "bold" if system["system"] == "tuned" else ""
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


# What is shown, as text, before it is a page or Markdown --------------------------------------------------------------


def view(results: Results) -> dict[str, Any]:
    """Everything the templates show, already in words and charts."""
    from jinja2.utils import htmlsafe_json_dumps

    tuned = next((system for system in results["systems"] if system["system"] == "tuned"), None)
    curves = _curves(results)
    calibration = []
    for system in results["systems"]:
        if bins := system.get("calibration"):
            name = system["system"]
            calibration.append({"title": name, "svg": page.safe(charts.reliability(bins, title=name))})
    shown = {
        "run": results["run"],
        "created": words.moment(results["created"]),
        "task": results["task"],
        "base": results["base"],
        "verdict": results["verdict"],
        "tone": TONES.get(results["verdict"]["word"], "tone-warn"),
        "facts": _facts(results),
        "primary": results["primary"],
        "part": _part(results),
        "results_note": _results_note(results),
        "forest": _forest(results),
        "table": _table(results, "metrics"),
        "clean": _table(results, "clean_metrics") if any(s.get("clean_metrics") for s in results["systems"]) else None,
        "notes": [
            *((system["system"], system["note"]) for system in results["systems"] if system.get("note")),
            *(results.get("signatures") or {}).items(),
        ],
        "stages": _stages(results),
        "forgetting": matrix_view(results["forgetting"]) if results.get("forgetting") else None,
        "transfer": transfer_view(results.get("transfer") or []),
        "transfer_columns": COLUMNS,
        "transfer_note": NOTE,
        "tasks": _tasks(results),
        "suites": _suites(results),
        "distilled": _distilled(results),
        "forgotten": forgotten(results),
        "curves": curves,
        "curves_note": _curves_note(results),
        "calibration": calibration,
        "confusion": _confusion(tuned),
        "classes": _classes(tuned),
        "samples": results["samples"],
        "samples_json": htmlsafe_json_dumps(results["samples"]) if results["samples"] else None,
        "leakage": results["data"]["leakage"],
        "measured": _measured(results),
        "sources": [
            {
                "path": source.get("path") or source.get("name", ""),
                "rows": words.whole(source.get("rows")),
                "licence": source.get("licence") or words.NOTHING,
                "sha256": source["sha256"],
            }
            for source in results["data"]["sources"]
        ],
        "data_tables": _data_tables(results),
        "cost": [(name, words.whole(value)) for name, value in results["cost"].items()],
        "plan": results.get("plan"),
        "recipe": results["recipe"],
        "environment": [(name, words.whole(value)) for name, value in results["environment"].items()],
        "next": results.get("next"),
    }
    present = {"curves": curves, "calibration": calibration, "samples": results["samples"], "next": shown["next"]}
    present |= {"classes": shown["classes"] or shown["confusion"], "suites": shown["suites"], "tasks": shown["tasks"]}
    present["stages"] = shown["stages"]
    present["distilled"] = shown["distilled"]
    present["forgotten"] = shown["forgotten"]
    titles = (
        "stages",
        "results",
        "tasks",
        "suites",
        "distilled",
        "forgotten",
        "curves",
        "calibration",
        "classes",
        "samples",
        "data",
        "cost",
        "recipe",
        "environment",
        "next",
    )
    shown["sections"] = [(name, name.capitalize()) for name in titles if present.get(name, True)]
    return shown


def _facts(results: Results) -> list[tuple[str, str]]:
    method = results["method"]
    trained, total = method["trainable_parameters"], method["all_parameters"]
    share = f" ({100 * trained / total:.3g}\N{NO-BREAK SPACE}%)" if total else ""
    adapter = method["adapter"] + (f", {method['objective']}" if method.get("objective") else "")
    facts = [
        ("Task", results["task"]),
        ("Base model", results["base"]),
        ("Method", adapter),
        ("Trained parameters", f"{trained:,} of {total:,}{share}"),
        ("Rows", ", ".join(f"{count:,} {name}" for name, count in results["splits"].items())),
    ]
    if preflight := results.get("preflight"):
        supervised, tokens = preflight["supervised_tokens"], preflight["all_tokens"]
        share = f" ({100 * supervised / tokens:.3g}\N{NO-BREAK SPACE}%)" if tokens else ""
        facts.append(("Supervised tokens", f"{supervised:,} of {tokens:,}{share}"))
        facts.append(("Cut to length", f"{preflight['truncated']:,} of {preflight['examples']:,} examples"))
    return facts


def _part(results: Results) -> str:
    """The split that was measured: test, or validation where there is no test part."""
    return "test" if any(name.startswith("test/") for name in results["metrics"]) else "validation"


def _results_note(results: Results) -> str:
    primary = results["primary"]
    direction = "higher is better" if results["higher_is_better"].get(primary, True) else "lower is better"
    sizes = sorted({figure["n"] for system in results["systems"] for figure in system["metrics"].values()})
    rows = " or ".join(f"{size:,}" for size in sizes)
    note = f"The deciding figure is {primary} ({direction}), on {rows} rows that no system was trained on."
    if _part(results) == "validation":
        note += " They also chose the checkpoint, which flatters the tuned model."
    if any(_flat(figure) for system in results["systems"] for figure in system["metrics"].values()):
        note += " An interval without width means that these rows cannot show one, not that the figure is certain."
    return note


def _flat(figure: Any) -> bool:
    return figure["value"] is not None and figure["low"] is not None and figure["low"] == figure["high"]


def _forest(results: Results) -> dict[str, Any]:
    """The primary figure of every system on one scale; the dashed line is the tuned one."""
    primary = results["primary"]
    figures = {system["system"]: system["metrics"].get(primary) for system in results["systems"]}
    known = {name: figure for name, figure in figures.items() if figure and _drawn(figure)}
    if not known:
        return {"rows": [], "axis": ""}
    limits = (0.0, 1.0) if primary.startswith(SHARES) else None
    ends = charts.scale([(figure["low"], figure["high"]) for figure in known.values()], limits)  # type: ignore[misc]
    line = known["tuned"]["value"] if "tuned" in known else None
    rows = []
    for system in results["systems"]:
        name, figure = system["system"], figures[system["system"]]
        plot = ""
        if name in known:
            drawn = known[name]
            kind = "c1" if name == "tuned" else "c2"
            plot = charts.whisker(drawn["value"], drawn["low"], drawn["high"], ends, kind=kind, line=line)  # type: ignore[arg-type]
        rows.append(
            {
                "name": name,
                "value": words.number(figure["value"] if figure else None),
                "interval": words.interval(figure),
                "plot": page.safe(plot),
                "versus": words.versus(system.get("versus")),
            }
        )
    return {"rows": rows, "axis": page.safe(charts.axis(ends))}


def _drawn(figure: Any) -> bool:
    return all(figure[key] is not None and math.isfinite(figure[key]) for key in ("value", "low", "high"))


def _table(results: Results, key: str) -> dict[str, Any]:
    """All figures of all systems: a column for each metric, then what answering took."""
    systems: list[System] = [system for system in results["systems"] if system.get(key)]
    names = list(dict.fromkeys(name for system in systems for name in system[key]))  # type: ignore[literal-required]
    timed = key == "metrics"
    costly = timed and any(system.get("cost") for system in systems)
    rows = []
    for system in systems:
        figures = system[key]  # type: ignore[literal-required]
        cells = []
        for name in names:
            figure = figures.get(name)
            cells.append(
                {"value": words.number(figure["value"] if figure else None), "interval": words.interval(figure)}
            )
        if timed:
            times = (system.get("trained_seconds") or None, system.get("seconds"))
            cells += [{"value": words.seconds(time), "interval": ""} for time in times]
        if costly:
            cells.append({"value": system.get("cost") or words.NOTHING, "interval": ""})
        rows.append({"name": system["system"], "cells": cells})
    head = ["system", *names, *(["training", "answering"] if timed else []), *(["cost"] if costly else [])]
    return {"head": head, "rows": rows}


def _stages(results: Results) -> list[dict[str, str]]:
    """A line for each stage: what it learned from what, and its main figure on its own rows."""
    return [
        {
            "name": stage["name"],
            "report": stage["report"],
            "what": f"{stage['task']}, {stage['objective']}, {stage['adapter']}",
            "steps": f"{stage['steps']:,} steps, {words.seconds(stage['seconds'])}",
            "figure": f"{stage['primary']} {words.number(stage['figure']['value'] if stage['figure'] else None)} "
            f"({words.interval(stage['figure'])})",
            "verdict": stage["verdict"],
        }
        for stage in results.get("stages") or []
    ]


def _tasks(results: Results) -> list[dict[str, Any]]:
    """Each of several tasks: all systems on its main figure, and the tuned model's other figures."""
    told = []
    for task in results.get("tasks") or []:
        own: Any = {**results, "primary": task["primary"], "higher_is_better": task["higher_is_better"]}
        own["systems"] = task["systems"]
        direction = "higher is better" if task["higher_is_better"].get(task["primary"], True) else "lower is better"
        told.append(
            {
                "name": task["name"],
                "kind": task["kind"],
                "primary": task["primary"],
                "note": f"{task['kind']}, {task['train']:,} training examples; decided by {task['primary']} "
                f"({direction}) on {task['n']:,} rows.",
                "forest": _forest(own),
                "table": _table(own, "metrics"),
                "notes": [(system["system"], system["note"]) for system in task["systems"] if system.get("note")],
            }
        )
    return told


def _suites(results: Results) -> list[dict[str, str]]:
    """A line for each suite: its own figure before and after, then the others of the tuned model."""
    rows = []
    for suite in results.get("suites") or []:
        name, tuned, base = suite["primary"], suite["tuned"], suite["base"] or {}
        told = {side: figures.get(name) for side, figures in (("base", base), ("tuned", tuned))}
        written = {
            side: f"{words.number(figure['value'])} ({words.interval(figure)})" if figure else words.NOTHING
            for side, figure in told.items()
        }
        others = [f"{key} {words.number(figure['value'])}" for key, figure in tuned.items() if key != name]
        direction = "higher" if suite["higher_is_better"] else "lower"
        rows.append(
            {
                "suite": suite["suite"],
                "figure": f"{name} ({direction} is better)",
                "rows": words.whole(next((figure["n"] for figure in tuned.values()), 0)),
                **written,
                "change": words.versus(suite["change"]) or words.NOTHING,
                "others": ", ".join(others),
                "note": suite["note"],
            }
        )
    return rows


def _distilled(results: Results) -> dict[str, Any] | None:
    rows = results.get("distilled")
    return {"head": distilled_head(rows), "rows": distilled_rows(rows), "n": rows[0]["n"]} if rows else None


def _points(results: Results, key: str) -> list[tuple[float, float]]:
    rows = [(row.get("step"), row.get(key)) for row in results["curves"]]
    return [(step, y) for step, y in rows if _plain(step) and _plain(y)]  # type: ignore[misc]


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mean over a window of a thirtieth of the run."""
    reach = max(1, len(points) // 60)
    smooth = []
    for at, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, at - reach) : at + reach + 1]]
        smooth.append((x, sum(near) / len(near)))
    return smooth


def _curves(results: Results) -> list[dict[str, Any]]:
    loss, best, primary = _points(results, "loss"), results.get("best_step"), results["primary"]
    noisy = len(loss) >= 60
    losses = [charts.Line("train", _smooth(loss) if noisy else loss, "c1")]
    losses += [charts.Line("", loss, "c1 faint")] if noisy else []
    losses.append(charts.Line("validation", _points(results, "validation/loss"), "c3", dots=True))
    plans: list[tuple[str, list[charts.Line], bool]] = [("Loss", losses, False)]
    names = [task["name"] for task in results.get("tasks") or []]
    for start in range(0, len(names), len(TASK_LINES)):
        by_task = [
            charts.Line(name, _points(results, f"validation/{name}/loss"), kind, dots=True)
            for name, kind in zip(names[start:], TASK_LINES)
        ]
        plans.append(("Validation loss of each task", by_task, False))
    if primary != "loss":
        figure = charts.Line("validation", _points(results, f"validation/{primary}"), "c3", dots=True)
        plans.append((f"{primary} on validation rows", [figure], False))
    for title, key, zero in (
        ("Learning rate", "learning_rate", True),
        ("Gradient norm", "grad_norm", True),
        ("Tokens per second", "tokens_per_second", True),
        ("Memory, GiB", "memory_gib", True),
    ):
        plans.append((title, [charts.Line("", _points(results, key), "c1")], zero))
    drawn = []
    for title, curves, zero in plans:
        if svg := charts.lines(curves, title=title, mark=best, zero=zero):
            legend = [(line.kind, line.name) for line in curves if line.name and line.points]
            drawn.append({"title": title, "legend": legend, "svg": page.safe(svg)})
    return drawn


def _curves_note(results: Results) -> str:
    best = results.get("best_step")
    mark = f" The dashed line marks step {best:,}, whose weights are the result." if best is not None else ""
    return f"{len(_points(results, 'loss')):,} logged steps.{mark}"


def _confusion(tuned: System | None) -> dict[str, Any] | None:
    found = tuned.get("confusion") if tuned else None
    if not found:
        return None
    numbered = len(found["labels"]) > 6 or any(len(name) > 14 for name in found["columns"])
    columns = []
    for at, name in enumerate(found["columns"], 1):
        columns.append((str(at) if numbered and at <= len(found["labels"]) else name, name))
    rows = []
    for label, counts in zip(found["labels"], found["matrix"] or [], strict=False):
        total = sum(counts) or 1
        cells = []
        for name, count in zip(found["columns"], counts, strict=True):
            shade = 0 if not count else min(9, 1 + int(9 * count / total))
            kind = "zero" if not count else f"{'d' if name == label else 'e'}{shade}"
            cells.append((kind, f"{count:,}"))
        rows.append({"name": label, "cells": cells})
    return {"pairs": found["pairs"][:10], "columns": columns, "rows": rows, "numbered": numbered}


def _classes(tuned: System | None) -> list[dict[str, Any]] | None:
    rows = tuned.get("per_class") if tuned else None
    if not rows:
        return None
    return [
        {
            "label": row["label"],
            "support": f"{row['support']:,}",
            "predicted": f"{row['predicted']:,}",
            **{name: words.number(row[name]) for name in ("precision", "recall", "f1")},  # type: ignore[literal-required]
            "bar": page.safe(
                f'<svg width="60" height="8" aria-hidden="true"><rect class="grid" width="60" height="8" fill="none"/>'
                f'<rect class="bar c1" width="{60 * row["f1"]:.1f}" height="8"/></svg>'
            ),
        }
        for row in rows
    ]


def _measured(results: Results) -> str:
    rows = results["data"].get("measured_rows")
    if rows is None:
        return ""
    return f"Measured on {rows['n']:,} {rows['part']} rows, SHA-256 {rows['sha256'][:16]}."


def _data_tables(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    data = results["data"]
    return [
        ("Rows", [(name, words.whole(count)) for name, count in data["counts"].items()]),
        ("Left out", [(name, words.whole(count)) for name, count in data["drops"].items()]),
        ("Split", [(name, words.whole(count)) for name, count in results["splits"].items()]),
    ]
