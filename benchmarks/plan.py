"""Predicted against actual: ten varied recipes are rehearsed and then really run, each in a process of its own.

    python benchmarks/plan.py                  # all ten; about 10 minutes on two quiet cores
    python benchmarks/plan.py --only tag sft   # some

Prints a table of memory, training time and time of the whole run, predicted and actual, with the errors, and fails
where memory is off by more than 15 % or training time by more than 25 %. On a machine that others use, clock time says
little: `processor` compares processor time of training in the same way. Real data where ATTUNE_SHARED (default
../shared) has it; the recipes that need it are left out, with a word, where it has not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ATTUNE_SHARED", ROOT.parent / "shared"))
CLAIMS = {"path": str(ROOT / "examples/claims/train.csv"), "test": str(ROOT / "examples/claims/test.csv")}
BANKING = {
    "path": str(SHARED / "data/banking77/train.csv"),
    "test": str(SHARED / "data/banking77/test.csv"),
    "target": "category",
    "truncate": "window",
}
DOLLY = {
    "path": str(SHARED / "data/instructions/dolly_mix.jsonl"),
    "split": {"validation": 0.02, "test": 0.02},
    "max_length": 512,
    "truncate": "drop",
    "max_truncated": 0.1,
}
WNUT = SHARED / "data/wnut17"
PLAIN = {"name": "classify", "head_init": "random"}  # no pass over all rows before the first step
LABELS: dict[str, Any] = {"baselines": ["majority", "tfidf"]}
FEW: dict[str, Any] = {"baselines": [], "generate_rows": 24, "max_new_tokens": 48}
RECIPES: dict[str, dict[str, Any]] = {
    "classify-full": {
        "adapter": "full", "data": {**CLAIMS, "target": "claim_type", "truncate": "window"},
        "train": {"max_steps": 24, "batch_size": 32}, "evaluate": {"baselines": ["majority", "tfidf", "zero_shot"]},
    },
    "classify-lora": {
        "objective": PLAIN, "adapter": {"type": "lora", "r": 16},
        "data": {**CLAIMS, "target": "claim_type", "truncate": "window"},
        "train": {"max_steps": 40, "batch_size": 16}, "evaluate": LABELS,
    },
    "minilm-full": {
        "model": {"base": "minilm"}, "adapter": "full", "data": {**CLAIMS, "target": "decision", "truncate": "window"},
        "train": {"max_steps": 16, "batch_size": 16}, "evaluate": LABELS,
    },
    "minilm-lora-short": {
        "model": {"base": "minilm"}, "objective": PLAIN, "adapter": "lora", "data": BANKING,
        "train": {"max_steps": 40, "batch_size": 64, "eval_every": 20}, "evaluate": {"baselines": ["majority"]},
    },
    "minilm-freeze-short": {
        "model": {"base": "minilm"}, "objective": PLAIN,
        "adapter": {"type": "freeze", "layers": 3}, "data": BANKING,
        "train": {"max_steps": 60, "batch_size": 32, "eval_every": 60}, "evaluate": {"baselines": ["majority"]},
    },
    "tag": {
        "model": {"base": "minilm"}, "adapter": "full",
        "data": {
            "path": str(WNUT / "wnut17train.conll"), "validation": str(WNUT / "emerging.dev.conll"),
            "test": str(WNUT / "emerging.test.annotated"), "truncate": "window", "leakage": "report",
        },
        "train": {"max_steps": 50, "batch_size": 32}, "evaluate": {"baselines": ["lexicon"]},
        "objective": {**PLAIN, "name": "tag"},
    },
    "sft-full": {
        "adapter": "full", "data": DOLLY, "train": {"max_steps": 24, "batch_size": 16}, "evaluate": FEW,
    },
    "sft-lora-large-step": {
        "adapter": {"type": "lora", "r": 64}, "data": DOLLY, "train": {"max_steps": 8, "batch_size": 64},
        "evaluate": {**FEW, "baselines": ["zero_shot"]},
    },
    "sft-padded": {
        "adapter": "full", "data": {**DOLLY, "max_length": 256, "max_truncated": 0.4}, "evaluate": FEW,
        "train": {"max_steps": 30, "batch_size": 8, "layout": "padded", "micro_batch_tokens": 1024},
    },
    "pretrain-long": {
        "adapter": "full", "objective": "pretrain", "evaluate": {"baselines": []},
        "data": {
            "path": str(SHARED / "data/eval_text/wikitext2/test.txt"), "task": "text", "max_length": 1024,
            "validation": str(SHARED / "data/onestop_simplify/ELE-INT.txt"),
            "test": str(SHARED / "data/onestop_simplify/ADV-ELE.txt"),
        },
        "train": {"max_steps": 12, "batch_size": None, "batch_tokens": 8192, "eval_every": 12},
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(RECIPES))
    parser.add_argument("--json", type=Path, help="write the rows here too")
    asked = parser.parse_args()
    rows = []
    print(f"{'recipe':21} {'memory GiB':>22} {'training s':>22} {'processor s':>22} {'everything s':>22}")
    for name in asked.only or RECIPES:
        values = RECIPES[name]
        if not Path(values["data"]["path"]).exists():
            print(f"{name:21} left out: {values['data']['path']} is not here")
            continue
        row = once(name, values)
        rows.append(row)
        print(f"{name:21} " + " ".join(f"{_pair(row[key]):>22}" for key in KEYS), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    off = [row["recipe"] for row in rows if abs(_error(row["memory"])) > 0.15 or abs(_error(row["training"])) > 0.25]
    print(
        f"{len(rows) - len(off)} of {len(rows)} within 15 % of memory and 25 % of training time"
        + f": not {off}" * bool(off)
    )
    sys.exit(bool(off))


KEYS = ("memory", "training", "processor", "everything")


def once(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """(predicted, actual) of one recipe."""
    from ruamel.yaml import YAML

    with tempfile.TemporaryDirectory(prefix="attune-bench-") as scratch:
        recipe = Path(scratch) / "recipe.yaml"
        train = {"early_stopping": None, **values["train"]}
        YAML(typ="safe").dump({**values, "name": name, "train": train}, recipe)
        command = [sys.executable, "-m", "attune.cli", "train", str(recipe), "--plan", "-q", "--out", f"{scratch}/runs"]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        run = Path(scratch) / "runs" / name
        kept = json.loads((run / "plan.json").read_text())
    found, actual = kept["estimate"], kept["actual"]
    return {
        "recipe": name,
        "memory": [found["memory_gib"]["value"], actual["memory_gib"]],
        "training": [found["train_seconds"]["value"], actual["train_seconds"]],
        "processor": [found["processor_seconds"], actual["processor_seconds"]],
        "everything": [found["total_seconds"]["value"], actual["total_seconds"]],
        "plan": kept,
    }


def _error(pair: list[float]) -> float:
    return pair[0] / max(pair[1], 1e-9) - 1


def _pair(pair: list[float]) -> str:
    digits = 2 if max(pair) < 10 else 1
    return f"{pair[0]:.{digits}f} / {pair[1]:.{digits}f} {_error(pair):+5.0%}"


if __name__ == "__main__":
    main()
