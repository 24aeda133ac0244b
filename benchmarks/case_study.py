"""The case study that practitioners quote, on our own data: LoRA on 10,000 claim documents, beside the alternatives.

    python benchmarks/case_study.py [--only NAME ...] [--out FOLDER] [--seed 0] [--threads N]

Writes 9,000 training and 1,000 test notes with examples/claims/generate.py (other names, employers and phrases in
test), then trains one run after the other, each in a process of its own:

    quoted         LoRA, 4 epochs, learning rate 2e-4, weight decay 0.01, as the study has it
    lora           the same with attune's own learning rate
    full           every weight, attune's own learning rate
    prompt_tuning  soft prompts, attune's own learning rate
    chosen         what `attune run` chooses by itself

The first run also measures the baselines (majority, TF-IDF + logistic regression, the base zero-shot and few-shot).
A run that is finished is not made again. Prints a Markdown table; every figure with its 95 % interval over the test
notes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from attune.evaluate.compare import compare
from attune.runs import Run

REPO = Path(__file__).resolve().parents[1]
TRAIN, TEST = 9000, 1000
GOAL = "classify workers' compensation claims by what is true of the worker"
SAME = ["data.target=claim_type", "data.max_drop=0.1", "objective=classify", "model.base=starter"]
METHODS: dict[str, list[str]] = {
    "quoted": ["adapter=lora", "train.epochs=4", "train.learning_rate=2e-4", "train.weight_decay=0.01"],
    "lora": ["adapter=lora", "train.epochs=4", "train.weight_decay=0.01"],
    "full": ["adapter=full", "train.epochs=4", "train.weight_decay=0.01"],
    "prompt_tuning": ["adapter=prompt_tuning", "train.epochs=4", "train.weight_decay=0.01"],
    "chosen": [],
}


def command(name: str, data: Path, out: Path, seed: int, threads: int | None) -> list[str]:
    """The command line of one run."""
    overrides = [f"seed={seed}", f"name={name}", *METHODS[name]]
    overrides += [f"train.threads={threads}"] if threads else []
    overrides += [] if name == "quoted" else ["evaluate.baselines=[majority]"]
    attune = [sys.executable, "-m", "attune.cli"]
    if name == "chosen":
        sets = [part for override in overrides for part in ("--set", override)]
        files = [str(data / "train.csv"), "--test", str(data / "test.csv"), "--target", "claim_type"]
        return [*attune, "run", *files, "--goal", GOAL, "--out", str(out), *sets]
    recipe = out / "common.yaml"
    recipe.write_text(f"data: {{path: {data / 'train.csv'}, test: {data / 'test.csv'}}}\n")
    return [*attune, "train", str(recipe), *SAME, *overrides, "--out", str(out)]


def shown(figure: dict[str, Any] | None) -> str:
    """A figure with its interval."""
    return "" if figure is None else f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("runs/case-study"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    data = asked.out / "data"
    if not (data / "test.csv").exists():
        sizes = ["--train", str(TRAIN), "--test", str(TEST), "--out", str(data)]
        subprocess.run([sys.executable, str(REPO / "examples/claims/generate.py"), *sizes], check=True)
    rows: list[str] = []
    runs: dict[str, Run] = {}
    for name in asked.only:
        subprocess.run(command(name, data, asked.out, asked.seed, asked.threads), check=True)
        runs[name] = run = Run(asked.out / name)
        results, facts = run.results, json.loads((run.path / "data" / "training.json").read_text())
        systems = results["systems"] if name == "quoted" else results["systems"][:1]
        for system in systems:
            figures, tuned = system["metrics"], system["system"] == "tuned"
            cost = [""] * 4
            if tuned:
                share = 100 * facts["trained_weights"] / facts["weights"]
                speed = f"{facts['tokens'] / max(facts['seconds'], 1e-9):,.0f}"
                cost = [f"{share:.2f} %", f"{facts['seconds']:,.0f} s", speed, f"{facts['peak_memory_gib']:.2f} GiB"]
            label = name if tuned else system["system"]
            cells = [label, shown(figures.get("accuracy")), shown(figures.get("f1_macro")), *cost]
            rows.append("| " + " | ".join(cells) + " |")
    print("| | accuracy | macro-F1 | trained | training | tokens/s | peak memory |\n|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    for name, run in runs.items():
        if name != "quoted" and "quoted" in runs:
            print(f"\n{name} against quoted: {compare(run, runs['quoted'])['sentence']}")


if __name__ == "__main__":
    main()
