"""The audit as plain JSON: the same records and options give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attune.data.audit.balance import balance
from attune.data.audit.comparison import comparison
from attune.data.audit.diversity import diversity
from attune.data.audit.duplicates import duplicates
from attune.data.audit.groups import groups, rates
from attune.data.audit.labels import label_noise
from attune.data.audit.lengths import lengths
from attune.data.audit.missing import missing
from attune.data.audit.overview import overview
from attune.data.audit.spurious import spurious
from attune.data.audit.view import AuditOptions, Section, View
from attune.errors import DataError
from attune.records import Record

__all__ = ["audit", "SECTIONS"]

SECTIONS: dict[str, tuple[str, Callable[[View], Section]]] = {
    "overview": ("Overview", overview),
    "balance": ("Class balance", balance),
    "lengths": ("Lengths and truncation", lengths),
    "labels": ("Labels to re-check", label_noise),
    "duplicates": ("Duplicates", duplicates),
    "missing": ("Missing and broken", missing),
    "comparison": ("Held-out parts against train", comparison),
    "spurious": ("Short cuts", spurious),
    "groups": ("Groups of people", groups),
    "rates": ("Label rates by group", rates),
    "diversity": ("Diversity", diversity),
}
"""Name -> title and measure, in the order of the page."""
LEVELS = ("warn", "note", "good")


def audit(
    parts: Mapping[str, Sequence[Record]],
    task: str,
    *,
    ledger_facts: list[dict[str, Any]] | None = None,
    manifest: dict[str, Any] | None = None,
    tokenizer: Any = None,
    options: AuditOptions | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Look at divided records (`train`, `validation`, `test`; all but train may be absent) from every side.

    `manifest` is that of the data stage and `ledger_facts` are what the steps told (by default the manifest's); both
    only feed the overview. With a transformers tokenizer lengths are in tokens.
    Raises: DataError if there is no row at all; MachineError if embeddings are asked for and not installed.
    """
    if not any(len(records) for records in parts.values()):
        raise DataError("there is no row to audit", fix="check data.path, and what data.prepare left out")
    view = View(
        parts={name: parts[name] for name in ("train", "validation", "test") if name in parts and len(parts[name])},
        task=task,
        options=options or AuditOptions(),
        facts=((manifest or {}).get("prepared") or {}).get("steps", []) if ledger_facts is None else ledger_facts,
        manifest=manifest or {},
        tokenizer=tokenizer,
    )
    sections: dict[str, Section] = {}
    found = []
    for name, (title, measure) in SECTIONS.items():
        say(f"audit: {title.lower()}")
        section = measure(view)
        found += [{**one, "section": name} for one in section.pop("findings", [])]
        sections[name] = {"title": title, **section}
    found.sort(key=lambda one: LEVELS.index(one["level"]))
    return {
        "version": 1,
        "task": task,
        "rows": {name: len(records) for name, records in view.parts.items()},
        "sampled": {name: len(sample) for name, sample in view.samples.items() if len(sample) < len(view.parts[name])},
        "options": view.options.model_dump(mode="json"),
        "findings": found,
        "sections": sections,
    }
