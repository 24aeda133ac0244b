"""What shape the data has, decided from its first rows, and one sentence that says why."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from attune import plugins
from attune.data.formats.base import Format, Mapping
from attune.data.formats.labelled import LABEL_NAMES
from attune.data.formats.spans import spans_like
from attune.data.formats.text import ABOUT
from attune.errors import DataError, UsageError
from attune.records import LABEL_TASKS

__all__ = ["TASKS", "Found", "detect", "renamed"]

TASKS = (
    *("classification", "multilabel", "regression", "tagging", "generation", "text"),
    *("preference", "kto", "verifiable"),
)
"""The tasks of `attune.evaluate.predictions`, and those that only training knows."""
MANY_NUMBERS = 20
"""A column of more different numbers than this is hardly a class."""
ALSO = {"verifiable": ("generation",), "labelled": ("multilabel", "regression"), "preference": ("generation",)}
"""Tasks a format serves besides its own."""
Row = dict[str, Any]


class Found(NamedTuple):
    format: Format
    mapping: Mapping
    task: str
    why: str


def renamed(row: Row, columns: dict[str, str]) -> Row:
    """The row with the user's names replaced by ours."""
    moved = set(columns.values())
    row_ours = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    return {**{key: value for key, value in row.items() if key not in moved and key not in columns}, **row_ours}


def detect(
    rows: list[Row],
    *,
    format: str = "auto",
    columns: dict[str, str] | None = None,
    target: str | None = None,
    task: str | None = None,
    where: str = "",
) -> Found:
    """The format, the names of the columns and the task that the first rows suggest, under what the user has said.

    Raises: DataError if nothing fits or several columns do, naming them and the option that decides.
    """
    if task is not None and task not in TASKS:
        raise UsageError(
            f"unknown task '{task}'{plugins.nearest(task, list(TASKS))}", fix=f"one of: {', '.join(TASKS)}"
        )
    columns = dict(columns or {})
    if target is not None:
        columns["label"] = target
    keys = list(dict.fromkeys(key for row in rows for key in row))
    for ours, theirs in columns.items():
        if theirs not in keys:
            said = "target" if ours == "label" and target else f"columns: {ours}"
            guess = plugins.nearest(theirs, keys)
            raise DataError(
                f"no column is named '{theirs}' ({said}){guess}", where=where, fix=f"columns: {_some(keys)}"
            )
    seen = [renamed(row, columns) for row in rows]
    votes = _votes(seen)
    winner = votes.most_common(1)[0][0] if votes else None
    if format != "auto":
        winner = plugins.get("format", format).name  # type: ignore[attr-defined]
    if task == "text" and winner in (None, "labelled", "spans") and not target:
        return _only_text(rows, columns, where)
    nested = winner in (
        "split_pairs",
        "conll",
        "tokens_tags",
        "record",
        "squad",
        "text_pairs",
        "extraction",
        "translation",
    )
    by_columns = winner in (None, "labelled") or (
        format == "auto"
        and not nested
        and ("label" in columns and winner != "kto" or task in LABEL_TASKS or (winner == "spans" and _named(seen)))
    )
    if by_columns or (winner == "spans" and not any("text" in row for row in seen)):
        return _table(rows, columns, task, where, spans=winner == "spans", given=format != "auto")
    plugin = plugins.find("format")[winner]()  # type: ignore[index]
    task = _task(plugin, next((row for row in seen if "spans" in row), seen[0]), task, where)
    saw = "as asked" if format != "auto" else f"the first row has {_some(list(seen[0]))}"
    why = f"{saw}: format {plugin.name}, task {task}"
    others = [name for name in votes if name != plugin.name]
    if others and format == "auto":
        why += (
            f" (so do {votes[plugin.name]} of the first {sum(votes.values())} rows; others look like {_some(others)})"
        )
    return Found(plugin, Mapping(columns=columns, task=task), task, why)


def _votes(rows: list[Row]) -> Counter[str]:
    plugins_all = [plugin() for plugin in plugins.find("format").values()]
    votes: Counter[str] = Counter()
    for row in rows[:100]:
        score, name = max((plugin.sniff(row), plugin.name) for plugin in plugins_all)
        if score:
            votes[name] += 1
    return votes


def _task(plugin: Format, row: Row, task: str | None, where: str) -> str:
    own = plugin.task
    if plugin.name == "record":
        label = row.get("label")
        own = (
            "tagging"
            if "spans" in row
            else "multilabel"
            if isinstance(label, list)
            else "classification"
            if isinstance(label, str)
            else "regression"
            if isinstance(label, (int, float))
            else _task_of_completions(row)
        )
    if task is None or task == own or task in ALSO.get(plugin.name, ()):
        return task or own
    raise DataError(
        f"the data is for {own} (format {plugin.name}), not for {task}",
        where=where,
        fix=f"task: {own}, or name the columns",
    )


def _task_of_completions(row: Row) -> str:
    completions = row.get("completions") or []
    if len(completions) > 1:
        return "preference"
    if completions and "good" in completions[0]:
        return "kto"
    if "answer" in row:
        return "verifiable"
    return "generation" if row.get("prompt") else "text"


# columns of a table --------------------------------------------------------------------------------------------------


def _table(
    rows: list[Row], columns: dict[str, str], task: str | None, where: str, *, spans: bool, given: bool
) -> Found:
    """Which column is the text and which the label; every choice that was made is in the sentence."""
    values = {
        key: [row[key] for row in rows if row.get(key) not in (None, "")]
        for key in dict.fromkeys(k for r in rows for k in r)
    }
    values = {key: column for key, column in values.items() if column}
    texts = {key: sum(map(len, column)) / len(column) for key, column in values.items() if _texts(column)}
    label, reason = columns.get("label"), "you named it"
    if label is None:
        label, reason = _label_column(values, texts, columns.get("text"), where, "tagging" if spans else task)
    text, because = columns.get("text"), "you named it"
    if text is None:
        free = {key: length for key, length in texts.items() if key != label and key not in columns.values()}
        if not free:
            raise DataError(
                "no column holds texts",
                where=where,
                fix=f"name it: columns: {{text: ...}}; there are {_some(list(values))}",
            )
        text = next((key for key in free if key == "text"), None) or max(free, key=lambda key: free[key])
        for ours, theirs in columns.items():
            if ours != "label" and texts.get(theirs, 0) > free[text]:
                raise DataError(
                    f"the column '{theirs}' is named {ours}, so the text would be the shorter '{text}'",
                    where=where,
                    fix=f"columns: {{text: {theirs}}}, or {{text: {text}}} if that is meant",
                )
        because = "by its name" if text == "text" else f"the longest texts, {free[text]:.0f} characters on average"
    columns = {**columns, "text": text, "label": label}
    column = values.get(label, [])
    name, task, about = _label_kind(label, column, task, where, given)
    why = f"the rows have {_some(list(values))}; text is '{text}' ({because}), label is '{label}' ({reason}): {about}"
    if name == "pairs":
        columns = {key: value for key, value in columns.items() if key not in ("text", "label")} | {
            "source": text,
            "target": label,
        }
    return Found(plugins.find("format")[name](), Mapping(columns=columns, task=task), task, why)


def _only_text(rows: list[Row], columns: dict[str, str], where: str) -> Found:
    """The text of a table, for pre-training: its labels are not looked at."""
    lengths = {
        key: sum(len(row[key]) for row in rows if isinstance(row.get(key), str)) for row in rows[:1] for key in row
    }
    text = columns.get("text") or max(lengths, key=lambda key: lengths[key])
    if not lengths.get(text):
        raise DataError(
            "no column holds texts", where=where, fix=f"columns: {{text: ...}}; there are {_some(list(lengths))}"
        )
    why = f"the rows have {_some(list(lengths))}; text is '{text}' (the longest texts), nothing else is learnt"
    return Found(plugins.find("format")["text"](), Mapping(columns={**columns, "text": text}, task="text"), "text", why)


def _label_column(
    values: dict[str, list], texts: dict[str, float], text: str | None, where: str, task: str | None
) -> tuple[str, str]:
    marked = [key for key, column in values.items() if any(spans_like(item) for item in column[:50])]
    if task == "tagging":
        candidates, reason = marked, "it holds spans"
    else:
        candidates, reason = [key for key in values if key.lower() in LABEL_NAMES and key != text], "by its name"
        if len(candidates) != 1:
            longest = max(texts, key=lambda key: texts[key]) if texts else None
            few = [
                key
                for key in texts
                if key not in (text, longest) and key.lower() not in ABOUT and _few(values[key], texts[key])
            ]
            candidates = candidates or [*few, *marked]
            reason = "few different short values"
    if len(candidates) == 1:
        return candidates[0], reason
    if candidates:
        raise DataError(
            f"several columns could be the label: {', '.join(candidates)}",
            where=where,
            fix=f"say which: --target {candidates[0]} (in a recipe: data.target: {candidates[0]})",
        )
    raise DataError(
        "no column looks like a label, and the rows have no other shape that attune knows",
        where=where,
        why=f"the rows have {_some(list(values))}",
        fix="say which column it is: --target NAME; or the format: data.format: " + "|".join(plugins.names("format")),
    )


def _label_kind(name: str, column: list, task: str | None, where: str, given: bool) -> tuple[str, str, str]:
    """Format, task, and the words for it."""
    distinct = len({str(item) for item in column})
    numbers = [_number(item) for item in column]
    if task in (None, "tagging") and any(spans_like(item) for item in column[:200]):
        return "spans", "tagging", "spans, so tagging"
    if task == "tagging":
        raise DataError(f"'{name}' holds no spans", where=where, fix='a list of {"start", "end", "label"} is meant')
    if task == "regression":
        return "labelled", "regression", "a number to predict, as asked"
    if task is None and any(isinstance(item, list) for item in column) or task == "multilabel":
        return (
            "labelled",
            "multilabel",
            "lists of labels, so multilabel" if task is None else "several labels, as asked",
        )
    if task == "generation" or (task is None and not given and _written(column, distinct)):
        return "pairs", "generation", "a text to write, so generation" if task is None else "a text to write, as asked"
    if task not in (None, "classification"):
        raise DataError(
            f"a table with a label is not data for {task}", where=where, fix="see the formats in the user guide"
        )
    about = f"{distinct} different values in the first {len(column)} rows, so classification"
    if column and all(number is not None for number in numbers) and distinct > MANY_NUMBERS:
        if task is None and any(number != int(number) for number in numbers):  # type: ignore[arg-type]
            raise DataError(
                f"'{name}' has {distinct} different numbers: a value to predict, or classes?",
                where=where,
                fix="say --task regression, or --task classification",
            )
        about += "; they are all numbers: say task: regression to predict the value"
    return "labelled", "classification", about


def _texts(column: list) -> bool:
    if not all(isinstance(item, str) for item in column):
        return False
    structured = sum(item.lstrip()[:1] in ("[", "{") for item in column)
    return structured < len(column) / 2 and any(_number(item) is None for item in column)


def _few(column: list, average: float) -> bool:
    distinct = len(set(column))
    return average <= 40 and 2 <= distinct <= max(2, min(200, len(column) // 3))


def _written(column: list, distinct: int) -> bool:
    """Whether a target's values are sentences of their own rather than names of classes."""
    if not all(isinstance(item, str) for item in column) or distinct <= len(column) / 2:
        return False
    return sum(len(item.split()) for item in column) / len(column) >= 5


def _number(item: Any) -> float | None:
    if isinstance(item, bool) or not isinstance(item, (int, float, str)):
        return None
    try:
        value = float(item)
    except ValueError:
        return None
    return value if value - value == 0 else None


def _named(rows: list[Row]) -> bool:
    """Whether a table that has spans also has a column named like a class label."""
    return any(
        key.lower() in LABEL_NAMES and not spans_like(value) and value != []
        for row in rows[:20]
        for key, value in row.items()
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
