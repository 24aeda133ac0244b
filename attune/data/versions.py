"""Two versions of prepared data side by side: which rows came, went, moved or changed, and which step did it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attune.errors import DataError, UsageError

__all__ = ["diff", "facts_of"]

PARTS = ("train", "validation", "test")
SHOWN_CHARS = 160


def facts_of(folder: Path) -> dict[str, Any]:
    """What prepared data says of itself.

    Raises: UsageError if it is no prepared data; DataError if a file of it was changed since.
    """
    path = folder / "facts.json"
    if not path.exists():
        near = sorted(str(found.parent) for found in folder.glob("*/facts.json"))
        raise UsageError(
            f"{folder} is no prepared data",
            why="it has no facts.json",
            fix=f"one of: {', '.join(near)}" if near else "`attune data prepare` makes it",
        )
    facts = json.loads(path.read_text(encoding="utf-8"))
    for name, expected in facts["sha256"].items():
        with open(folder / f"{name}.jsonl", "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise DataError(
                    "this file is not as it was prepared",
                    where=str(folder / f"{name}.jsonl"),
                    why="its SHA-256 differs from facts.json",
                    fix="prepare again",
                )
    return facts


def diff(old: Path, new: Path, *, shown: int = 5) -> dict[str, Any]:
    """Rows by id: added, removed, moved between parts, text edited, label changed; and what differs in how they were
    made. `text` is the same in words; `shown` rows of each kind stand in it.

    In memory: 32 bytes of digest and the id for every row of the old version.
    Raises: as `facts_of`.
    """
    facts = {"old": facts_of(old), "new": facts_of(new)}
    before = {row["id"]: (part, *_digests(row)) for part, row in _rows(old)}
    counts: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {}
    changed: dict[str, set[str]] = {"edited": set(), "relabelled": set()}

    def note(kind: str, row: dict[str, Any], **more: Any) -> None:
        counts[kind] += 1
        if kind in changed:
            changed[kind].add(row["id"])
        if counts[kind] <= shown:
            text = " ".join(message["content"] for message in row["prompt"])[:SHOWN_CHARS]
            examples.setdefault(kind, []).append({"id": row["id"], "text": text, **more})

    for part, row in _rows(new):
        known = before.pop(row["id"], None)
        if known is None:
            note("added", row, part=part)
            continue
        text, label = _digests(row)
        if known[0] != part:
            note("moved", row, before=known[0], after=part)
        if known[1] != text:
            note("edited", row)
        if known[2] != label:
            note("relabelled", row, after=row.get("label", row.get("spans")))
        if known == (part, text, label):
            counts["same"] += 1
    for part, row in _rows(old):
        if row["id"] in before:
            note("removed", row, part=part)
        for kind, ids in changed.items():  # what stood there before
            for example in examples.get(kind, []) if row["id"] in ids else []:
                if example["id"] == row["id"]:
                    stood = " ".join(message["content"] for message in row["prompt"])[:SHOWN_CHARS]
                    example["before"] = stood if kind == "edited" else row.get("label", row.get("spans"))
    how = {
        "steps": {"old": facts["old"]["made_by"], "new": facts["new"]["made_by"]},
        "sources": {name: [s["sha256"] for s in found["made_from"]["sources"]] for name, found in facts.items()},
    }
    result = {
        "old": facts["old"]["address"],
        "new": facts["new"]["address"],
        "counts": {kind: counts[kind] for kind in ("same", "added", "removed", "moved", "edited", "relabelled")},
        "examples": examples,
        "steps_differ": how["steps"]["old"] != how["steps"]["new"],
        "sources_differ": how["sources"]["old"] != how["sources"]["new"],
        "steps": how["steps"],
    }
    return {**result, "text": _words(result)}


def _rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in PARTS:
        path = folder / f"{part}.jsonl"
        if path.exists():
            with open(path, encoding="utf-8") as file:
                for line in file:
                    yield part, json.loads(line)


def _digests(row: dict[str, Any]) -> tuple[bytes, bytes]:
    """(text, label): prompt and completions on one side, what is to be predicted on the other."""
    text = json.dumps([row["prompt"], row.get("completions")], sort_keys=True)
    label = json.dumps([row.get("label"), row.get("spans"), row.get("answer")], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()[:16], hashlib.sha256(label.encode()).digest()[:16]


def _words(result: dict[str, Any]) -> str:
    lines = [f"{result['old']} -> {result['new']}"]
    lines.append(", ".join(f"{count:,} {kind}" for kind, count in result["counts"].items()))
    if result["sources_differ"]:
        lines.append("the source files differ")
    if result["steps_differ"]:
        for name in ("old", "new"):
            steps = [json.dumps({row["step"]: row["options"]}, ensure_ascii=False) for row in result["steps"][name]]
            lines.append(f"steps of the {name} version: {', '.join(steps) or 'none'}")
    for kind, rows in result["examples"].items():
        lines.append(f"{kind}:")
        for row in rows:
            moved = f" {row.get('before', '')!s} -> {row.get('after', row['text'])!s}" if "before" in row else ""
            lines.append(f"  {row['id']}{moved or ' ' + row['text']}")
    return "\n".join(lines)
