"""How many rows there are, where they come from, what the desk did to them, and what it still asks."""

from __future__ import annotations

from typing import Any

from attune.data.audit.view import Section, View, finding

__all__ = ["overview"]

STRUCTURAL = ("step", "counts", "questions", "privacy")


def overview(view: View) -> Section:
    manifest = view.manifest
    rows = {name: len(records) for name, records in view.parts.items()}
    sources = [
        {key: source.get(key) for key in ("path", "rows", "licence", "sha256")}
        for source in manifest.get("sources", [])
    ]
    steps, questions = [], []
    for fact in view.facts:
        more = {key: value for key, value in fact.items() if key not in STRUCTURAL and value not in (None, {}, [], "")}
        steps.append({"step": fact.get("step", ""), "counts": fact.get("counts", {}), "facts": more})
        questions += [{"step": fact.get("step", ""), "question": one} for one in _listed(fact.get("questions"))]
    split = manifest.get("split") or {}
    found = {
        "rows": rows,
        "sources": sources,
        "licences": sorted({str(source["licence"]) for source in sources if source["licence"]}),
        "steps": steps,
        "questions": questions,
        "split": split.get("summary", ""),
        "excluded": dict(manifest.get("excluded") or {}),
        "protection": _protection(view.facts),
        "findings": [],
    }
    notes = found["findings"]
    nameless = sum(not source["licence"] for source in sources)
    if nameless:
        notes.append(
            finding("note", f"{nameless} of {len(sources)} sources state no licence: write one beside the file")
        )
    if questions:
        notes.append(finding("warn", f"The steps ask what only you can answer ({len(questions)}): see below"))
    notes += [finding("warn", warning) for warning in split.get("warnings", [])]
    if view.facts and not found["protection"]:
        notes.append(finding("note", "No step looked for personal data (data.prepare: pii)"))
    return found


def _listed(questions: Any) -> list[Any]:
    if not questions:
        return []
    if isinstance(questions, dict):
        return [{"about": key, "ask": value} for key, value in questions.items()]
    return list(questions) if isinstance(questions, (list, tuple)) else [questions]


def _protection(facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the privacy steps found and did, which they tell under `privacy`; the texts they took out are nowhere."""
    return [
        {"step": fact.get("step", ""), "counts": fact.get("counts", {}), "facts": fact["privacy"]}
        for fact in facts
        if isinstance(fact.get("privacy"), dict)
    ]
