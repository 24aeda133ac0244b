"""Every way to adapt on the same data: what it trains, what it costs, what it reaches.

    python benchmarks/methods.py clinc150|dolly [--rows N] [--test-rows N] [--methods NAME ...] [--minutes M]
                                 [--epochs E] [--seed 0] [--threads N] [--out FOLDER] [--set KEY=VALUE ...]

Each method trains in a process of its own with its default learning rate, for the same epochs, to its last weights.
One JSON line a method is appended to FOLDER/SUITE.jsonl as it ends, and a method that stands there is not run again;
the Markdown table is printed at the end. Peak memory is the process's own high-water mark when training ends (VmHWM).
Figures carry their 95 % interval; the difference to `full` is paired over the test rows. The data is looked for in
$ATTUNE_SHARED/data.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from attune.evaluate.compare import compare
from attune.runs import Run

SHARED = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
METHODS: dict[str, str] = {
    "full": "{type: full}",
    "full, rates by depth": "{type: full, layer_decay: 0.8}",
    "freeze embeddings": "{type: freeze}",
    "freeze lower half": "{type: freeze, layers: 3}",
    "gradual unfreezing": "{type: freeze, unfreeze: 0.5, layer_decay: 0.9}",
    "lora": "{type: lora}",
    "lora, rank 64": "{type: lora, r: 64}",
    "rslora": "{type: lora, rslora: true}",
    "dora": "{type: lora, dora: true}",
    "pissa": "{type: lora, init: pissa}",
    "olora": "{type: lora, init: olora}",
    "lora+": "{type: lora, lr_ratio: 4}",
    "qlora": "{type: lora, quantize: nf4}",
    "adalora": "{type: adalora}",
    "vera": "{type: vera}",
    "ia3": "{type: ia3}",
    "layernorm": "{type: layernorm}",
    "prompt_tuning": "{type: prompt_tuning}",
    "prompt_tuning, text": "{type: prompt_tuning, init: text, text: TEXT}",
    "prompt_tuning, random": "{type: prompt_tuning, init: random}",
    "prefix": "{type: prefix}",
    "p_tuning": "{type: p_tuning}",
    "loha": "{type: peft, method: loha}",
    "lokr": "{type: peft, method: lokr}",
    "oft": "{type: peft, method: oft}",
    "hra": "{type: peft, method: hra}",
}
SUITES: dict[str, dict[str, Any]] = {
    "clinc150": {
        "text": "which of many requests to an assistant is this",
        "epochs": 3,
        "set": [
            "model.base=minilm", "data.truncate=window", "objective={name: classify, label_smoothing: 0.1}",
            "train.batch_size=64", "train.warmup_ratio=0.1", "train.weight_decay=0.05", "train.early_stopping=null",
            "train.eval_every=10000", "evaluate.baselines=[]",
        ],
    },
    "dolly": {
        "text": "answer the instruction truthfully and to the point",
        "epochs": 2,
        "set": [
            "model.base=starter", "objective=sft", "data.max_length=512", "data.truncate=drop",
            "data.max_truncated=0.05", "data.split={validation: 0.05, test: 0.05}", "train.batch_size=16",
            "evaluate.baselines=[]", "evaluate.generate_rows=100", "evaluate.repetition_penalty=1.1",
        ],
    },
}  # fmt: skip


def data_of(suite: str, rows: int | None, test_rows: int | None, folder: Path) -> Path:
    """The suite's data file, or a part of it: as many rows of each class, or the first of a shuffled file."""
    if suite == "dolly":
        source = SHARED / "instructions" / "dolly_mix.jsonl"
        lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
        random.Random(0).shuffle(lines)
        target = folder / f"dolly-{rows or 'all'}.jsonl"
        target.write_text("".join(lines[:rows]), encoding="utf-8")
        return target
    whole = json.loads((SHARED / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    for part, limit in {"train": rows, "val": test_rows, "test": test_rows, "oos_test": test_rows}.items():
        classes: dict[str, list[Any]] = defaultdict(list)
        for row in whole[part]:
            classes[row[1]].append(row)
        share = None if limit is None else max(1, limit // 150)
        whole[part] = [row for group in classes.values() for row in group[:share]]
    target = folder / f"clinc150-{rows or 'all'}-{test_rows or 'all'}.json"
    target.write_text(json.dumps(whole), encoding="utf-8")
    return target


def run_one(name: str, data: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Train one method in a process of its own; what came out, or why it was refused."""
    suite = SUITES[asked.suite]
    folder = "".join(letter if letter.isalnum() else "-" for letter in name)
    adapter = METHODS[name].replace("TEXT", suite["text"])
    recipe = asked.out / f"{folder}.yaml"
    recipe.write_text(f"name: {folder}\nseed: {asked.seed}\ndata: {{path: {data}}}\nadapter: {adapter}\n")
    overrides = [*suite["set"], f"train.epochs={asked.epochs or suite['epochs']}", *asked.set]
    overrides += [f"train.budget={asked.minutes:g}m"] if asked.minutes else []
    overrides += [f"train.threads={asked.threads}"] if asked.threads else []
    command = [sys.executable, "-m", "attune.cli", "train", str(recipe), *overrides, "--out", str(asked.out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line.strip() for line in done.stderr.splitlines() if line.strip()][-4:]
        return {"method": name, "adapter": adapter, "refused": " ".join(last), "exit": done.returncode}
    run = Run(asked.out / folder)
    facts, results = json.loads((run.path / "data" / "training.json").read_text()), run.results
    figure = results["systems"][0]["metrics"][results["primary"]]
    return {
        "method": name,
        "adapter": adapter,
        "run": folder,
        "trained": facts["trained_weights"],
        "weights": facts["weights"],
        "learning_rate": facts["learning_rate"],
        "steps": facts["steps"],
        "seconds": facts["seconds"],
        "tokens_per_second": facts["tokens"] / max(facts["seconds"], 1e-9),
        "peak_memory_gib": facts["peak_memory_gib"],
        "metric": results["primary"],
        **{key: figure[key] for key in ("value", "low", "high")},
    }


def table(rows: list[dict[str, Any]], out: Path) -> str:
    """All rows as Markdown, each with its paired difference to `full`."""
    full = next((row for row in rows if row["method"] == "full" and "run" in row), None)
    metric = next((row["metric"] for row in rows if "metric" in row), "")
    lines = [
        f"| method | trained | learning rate | memory | tokens/s | {metric} | minus full |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['method']} | refused: {row['refused'][:160]} | | | | | |")
            continue
        gap = ""
        if full is not None and row is not full:
            pair = compare(Run(out / row["run"]), Run(out / full["run"]))
            gap = f"{pair['difference']:+.4f} ({pair['low']:+.4f} to {pair['high']:+.4f})"
        lines.append(
            f"| {row['method']} | {100 * row['trained'] / row['weights']:.3f} % | {row['learning_rate']:g} | "
            f"{row['peak_memory_gib']:.2f} GiB | {row['tokens_per_second']:,.0f} | "
            f"{row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f}) | {gap} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--rows", type=int, help="training rows (all where not given)")
    parser.add_argument("--test-rows", type=int, help="CLINC150: validation and test rows")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME")
    parser.add_argument("--minutes", type=float, help="time budget of a method")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further overrides for all methods")
    asked = parser.parse_args()
    asked.out = asked.out or Path("runs") / f"methods-{asked.suite}"
    asked.out.mkdir(parents=True, exist_ok=True)
    data = data_of(asked.suite, asked.rows, asked.test_rows, asked.out)
    record = asked.out / f"{asked.suite}.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    for name in asked.methods:
        if name in {row["method"] for row in rows}:
            continue
        row = run_one(name, data, asked)
        rows.append(row)
        with open(record, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    print("\n" + table([row for row in rows if row["method"] in asked.methods], asked.out))


if __name__ == "__main__":
    main()
