"""The report as Markdown, from the same words as the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["markdown"]

SAMPLES = 10
"""Samples that stand in the Markdown; the page holds all."""
LONGEST = 200
"""Characters of a sample's text that are shown."""


def markdown(shown: dict[str, Any]) -> str:
    """The same figures as Markdown; text from data cannot become markup."""
    verdict, blocks = shown["verdict"], []
    ship = "Ready to ship" if verdict["ship"] else "Not ready to ship"
    blocks.append(f"# {_md(shown['run'])}\n\n{_md(shown['task'])} with {_md(shown['base'])}, {_md(shown['created'])}")
    blocks.append(f"**{_md(verdict['word'].capitalize())}. {ship}.** {_md(verdict['sentence'])}")
    blocks.append("\n".join(f"- {_md(line)}" for line in verdict["evidence"]))
    blocks.append(_md_table(["", ""], [[name, value] for name, value in shown["facts"]]))
    if shown["stages"]:
        names = ["name", "what", "steps", "figure", "verdict"]
        rows = [[row[name] for name in names] for row in shown["stages"]]
        blocks.append("## Stages\n\n" + _md_table(["stage", "what", "training", "on its own rows", "verdict"], rows))
        for matrix in shown["forgetting"] or []:
            rows = [[row["name"], *(_md_cell(cell) for cell in row["cells"])] for row in matrix["rows"]]
            blocks.append(f"### {_md(matrix['title'])}\n\n{_md(matrix['note'])}")
            blocks.append(_md_table(["model after", *matrix["columns"]], rows))
            blocks.append(_md_table(["", "", "95 % interval"], matrix["summary"]))
    blocks.append(f"## Results on the {shown['part']} rows\n\n{_md(shown['results_note'])}")
    rows = [[row["name"], row["value"], row["interval"], row["versus"]] for row in shown["forest"]["rows"]]
    blocks.append(_md_table(["system", shown["primary"], "95 % interval", "tuned minus it (95 % interval), p"], rows))
    clean = "Without the rows that also stand in the training data"
    for title, table in (("All figures", shown["table"]), (clean, shown["clean"])):
        if table:
            rows = [[row["name"], *(_md_cell(cell) for cell in row["cells"])] for row in table["rows"]]
            blocks.append(f"### {title}\n\n{_md_table(table['head'], rows)}")
    blocks.append("\n".join(f"- {_md(name)}: {_md(note)}" for name, note in shown["notes"]))
    if shown["transfer"]:
        rows = [[row[key] for key in shown["transfer_columns"].values()] for row in shown["transfer"]]
        table = _md_table(list(shown["transfer_columns"]), rows)
        blocks.append(f"## Alone against together\n\n{shown['transfer_note']}\n\n{table}")
    for task in shown["tasks"]:
        rows = [[row["name"], *(_md_cell(cell) for cell in row["cells"])] for row in task["table"]["rows"]]
        versus = [[row["name"], row["value"], row["interval"], row["versus"]] for row in task["forest"]["rows"]]
        head = ["system", task["primary"], "95 % interval", "tuned minus it (95 % interval), p"]
        blocks.append(f"## Task {_md(task['name'])}\n\n{_md(task['note'])}")
        blocks += [_md_table(head, versus), _md_table(task["table"]["head"], rows)]
    if shown["suites"]:
        names = ["suite", "figure", "rows", "base", "tuned", "change", "others", "note"]
        rows = [[row[name] for name in names] for row in shown["suites"]]
        head = ["suite", "figure", "rows", "base", "tuned", "tuned minus base, p", "other figures, tuned", ""]
        blocks.append("## Suites\n\n" + _md_table(head, rows))
    if shown["distilled"]:
        blocks.append("## Distilled\n\n" + _md_table(shown["distilled"]["head"], shown["distilled"]["rows"]))
    if forgotten := shown["forgotten"]:
        rows = [list(row.values()) for row in forgotten["rows"]]
        head = ["retained suite", "figure", "questions", "base", "tuned", "points lost (95 % interval)", "p"]
        blocks.append(f"## What was forgotten\n\n{_md(forgotten['note'])}\n\n{_md_table(head, rows)}")
    if shown["confusion"] and shown["confusion"]["pairs"]:
        rows = [
            [pair["gold"], pair["said"], str(pair["count"]), str(pair["of"])] for pair in shown["confusion"]["pairs"]
        ]
        blocks.append("## Most confused\n\n" + _md_table(["label", "answered instead", "rows", "of"], rows))
    if shown["classes"]:
        names = ["label", "support", "predicted", "precision", "recall", "f1"]
        rows = [[row[name] for name in names] for row in shown["classes"]]
        blocks.append("## Per class\n\n" + _md_table(names, rows))
    if shown["samples"]:
        rows = [[s["prompt"], s["reference"], s["base"], s["tuned"]] for s in shown["samples"][:SAMPLES]]
        cut = [[_cut(text) for text in row] for row in rows]
        blocks.append("## Samples\n\n" + _md_table(["prompt", "reference", "base", "tuned"], cut))
    blocks.append(f"## Data\n\n{_md(shown['leakage'])} {shown['measured']}")
    rows = [[source["path"], source["rows"], source["licence"], source["sha256"]] for source in shown["sources"]]
    blocks.append(_md_table(["source", "rows", "licence", "SHA-256"], rows))
    blocks += [f"### {title}\n\n{_md_table(['', ''], rows)}" for title, rows in shown["data_tables"] if rows]
    blocks.append("## Cost\n\n" + _md_table(["", ""], shown["cost"]))
    if shown["plan"]:
        rows = [[row["what"], row["planned"], row["actual"]] for row in shown["plan"]]
        blocks.append("### Planned and actual\n\n" + _md_table(["", "planned", "actual"], rows))
    blocks.append("## Recipe\n\n" + _md_code(shown["recipe"], "yaml"))
    blocks.append("## Environment\n\n" + _md_table(["", ""], shown["environment"]))
    if shown["next"]:
        blocks.append("## Next\n\n" + _md_code("\n".join(shown["next"]), "sh"))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _md(text: Any) -> str:
    """Text on one line, with everything that Markdown or HTML would read as markup escaped."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(str(text).split()))


def _md_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    written = [[cell if line is lines[1] else _md(cell) for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in written)


def _md_cell(cell: dict[str, str]) -> str:
    return f"{cell['value']} ({cell['interval']})" if cell["interval"] else cell["value"]


def _md_code(text: str, language: str) -> str:
    """A code block whose fence is longer than any inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _cut(text: str | None) -> str:
    if text is None:
        return "(no answer)"
    return text if len(text) <= LONGEST else text[:LONGEST] + "\N{HORIZONTAL ELLIPSIS}"
