"""The table of a distillation in words: for the report and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["distilled_head", "distilled_rows"]


def distilled_head(rows: Sequence[dict[str, Any]]) -> list[str]:
    metric, unit = rows[0]["metric"], rows[0]["unit"]
    return ["system", f"{metric} (95 %)", "student minus it (95 %), p", "parameters", "MB", "ms", "p95 ms", f"{unit}/s"]


def distilled_rows(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One line a system, as `distill.side_by_side` measured it."""
    return [
        [
            row["system"],
            _figure(row["quality"]),
            _versus(row),
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['megabytes']:.1f}",
            f"{row['ms_median']:.1f}",
            f"{row['ms_p95']:.1f}",
            f"{row['per_second']:.1f}",
        ]
        for row in rows
    ]


def _figure(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['value']:.4f}"
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"


def _versus(row: dict[str, Any]) -> str:
    found = row["versus"]
    if found is None:
        return row["why_not"] or ""
    return f"{found['difference']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f}), p {found['p']:.2g}"
