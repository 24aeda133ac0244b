"""How long texts are, and what a length limit would cut off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attune.data.audit.view import Section, View, finding, text_of, words

__all__ = ["lengths"]

BINS = 30
BATCH = 512


def lengths(view: View) -> Section:
    import numpy as np

    parts: dict[str, Any] = {}
    measured: dict[str, np.ndarray] = {}
    units = ("characters", "words", "tokens") if view.tokenizer is not None else ("characters", "words")
    for name, sample in view.samples.items():
        texts = [text_of(record) for record in sample]
        if not texts:
            continue
        counts = {"characters": [len(text) for text in texts], "words": [len(words(text)) for text in texts]}
        if view.tokenizer is not None:
            counts["tokens"] = _tokens(view.tokenizer, texts)
        parts[name] = {unit: _summary(np.array(counts[unit])) for unit in units}
        measured[name] = np.array(counts[units[-1]])
    if not parts:
        return {"skipped": "there are no rows"}
    unit = units[-1]
    main = "train" if "train" in measured else next(iter(measured))
    cost = [
        {"max_length": limit, **{name: _cut(values, limit) for name, values in measured.items()}}
        for limit in view.options.max_lengths
    ]
    found: Section = {
        "unit": unit,
        "measured_on": {name: len(sample) for name, sample in view.samples.items()},
        "parts": parts,
        "histogram": _histogram(measured[main]),
        "histogram_of": main,
        "truncation": cost,
        "note": (
            "Tokens are those of the text alone, with what the tokenizer adds; a chat template comes on top."
            if unit == "tokens"
            else "Without a tokenizer the limits below are in words; English has about 1.3 tokens to a word, "
            "other languages more."
        ),
    }
    found["findings"] = _findings(cost, main, unit)
    return found


def _tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    found = []
    for start in range(0, len(texts), BATCH):
        # Untruncated on purpose: what is cut is the question.
        rows = tokenizer(list(texts[start : start + BATCH]), truncation=False, verbose=False)["input_ids"]
        found += [len(row) for row in rows]
    return found


def _summary(values: Any) -> dict[str, float]:
    import numpy as np

    shares = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    return {
        "smallest": int(values.min()),
        **{name: int(np.quantile(values, share, method="higher")) for name, share in shares.items()},
        "largest": int(values.max()),
        "mean": round(float(values.mean()), 1),
    }


def _cut(values: Any, limit: int) -> dict[str, float]:
    import numpy as np

    total = int(values.sum())
    lost = int(np.maximum(values - limit, 0).sum())
    return {
        "rows_cut": int((values > limit).sum()),
        "rows_share": round(float((values > limit).mean()), 5),
        "lost_share": round(lost / total, 5) if total else 0.0,
    }


def _histogram(values: Any) -> dict[str, Any]:
    """Even bins up to the 99.5th percentile; what is longer stands in the last one."""
    import numpy as np

    top = max(1, int(np.quantile(values, 0.995, method="higher")))
    width = max(1, -(-(top + 1) // BINS))
    bins = min(BINS, top // width + 1)
    counts = np.bincount(np.minimum(values // width, bins - 1), minlength=bins)
    return {"width": int(width), "counts": counts.tolist(), "beyond": int((values >= bins * width).sum())}


def _findings(cost: list[dict[str, Any]], main: str, unit: str) -> list[dict[str, str]]:
    whole = next((row["max_length"] for row in cost if not row[main]["rows_cut"]), None)
    enough = next((row for row in cost if row[main]["rows_share"] <= 0.01), None)
    if whole is not None and enough is not None and enough["max_length"] == whole:
        return [finding("good", f"max_length {whole} cuts no {main} row (in {unit})")]
    if enough is not None:
        lost = f"{enough[main]['rows_share']:.2%} of the rows and {enough[main]['lost_share']:.2%} of the {unit}"
        rest = f"; {whole} cuts none" if whole is not None else ""
        return [finding("note", f"max_length {enough['max_length']} cuts {lost}{rest}")]
    if not cost:
        return []
    row = cost[-1]
    share = row[main]["rows_share"]
    return [finding("warn", f"Even max_length {row['max_length']} cuts {share:.1%} of the {main} rows: use windows")]
