"""What the data desk is worth: the same recipe on raw data and on prepared data, on the same untouched test rows.

    python benchmarks/desk_effect.py banking77 --seeds 0 1 2      # 20 % of labels flipped, 20 % of rows duplicated
    python benchmarks/desk_effect.py claims --seeds 0 1 2         # examples/claims as it is: messy on purpose

Each seed makes its own noise and its own training. Prints one line a seed (difference of test macro-F1, paired over the
rows, with its interval and p) and the mean over seeds. ATTUNE_SHARED names the folder with Banking77.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

import attune
from attune.evaluate.compare import compare
from attune.evaluate.measure import metrics_for
from attune.runs import Run

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ATTUNE_SHARED", REPO.parent / "shared"))
TEXT = ["unicode", "control_characters", "whitespace"]
DUPLICATES = ["exact_duplicates", "normalised_duplicates", "near_duplicates", "conflicts"]
DESK = {
    "banking77": [
        *TEXT,
        {"label_noise": {"action": "drop", "threshold": 0.3, "rounds": 2, "embeddings": True}},
        *DUPLICATES,
    ],
    "claims": ["pii", *TEXT, "markup", "dates", "citations", "numbers", {"labels": {"mode": "auto"}}, *DUPLICATES],
}
RECIPE: dict[str, dict[str, Any]] = {
    "banking77": {
        "model": {"base": "minilm"},
        "adapter": {"type": "freeze", "layers": 3},
        "data": {"target": "category", "truncate": "window"},
        "objective": {"name": "classify"},
        "train": {"epochs": 5, "batch_size": 64, "learning_rate": 2e-4, "warmup_ratio": 0.1, "early_stopping": None,
                  "eval_every": 10_000},
        "evaluate": {"baselines": []},
    },
    "claims": {
        "model": {"base": "starter"},
        "adapter": {"type": "full"},
        "data": {"target": "claim_type", "truncate": "window", "max_drop": 0.2},
        "objective": {"name": "classify"},
        "train": {"epochs": 6, "batch_size": 32, "weight_decay": 0.05, "warmup_ratio": 0.06, "eval_every": 200},
        "evaluate": {"baselines": []},
    },
}  # fmt: skip


def noisy(source: Path, target: Path, seed: int, *, flipped: float = 0.2, repeated: float = 0.2) -> None:
    """A copy with labels flipped at random, and rows repeated: half of them as they are, half with small edits."""
    rng = random.Random(seed)
    with open(source, newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    labels = sorted({label for _, label in rows})
    rows = [
        (text, rng.choice([other for other in labels if other != label]) if rng.random() < flipped else label)
        for text, label in rows
    ]
    copies = rng.sample(rows, int(repeated * len(rows)))
    rows += [(text if rng.random() < 0.5 else edited(text, rng), label) for text, label in copies]
    rng.shuffle(rows)
    with open(target, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "category"), *rows])


def edited(text: str, rng: random.Random) -> str:
    """The same words in other clothes: case, blanks, an ending."""
    shouted, quiet, wide = text.upper(), text.lower(), text.replace(" ", "  ")
    return rng.choice([shouted, quiet, wide, text.rstrip("?.!") + " ?", f"Hi, {text}", f"{text} Thanks!"])


def pooled(pairs: list[tuple[Run, Run]], draws: int = 1000) -> tuple[float, float]:
    """95 % interval of the mean difference over the seeds; every draw takes the same test rows for all runs."""
    tables = []
    for pair in pairs:
        for run in pair:
            with np.load(run.path / "evaluation" / "statistics.npz", allow_pickle=False) as saved:
                tables.append(saved["f1_macro"])
    (metric,) = metrics_for("classification", ["f1_macro"])
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        rows = rng.integers(len(tables[0]), size=len(tables[0]))
        values = [metric.value(table[rows]) for table in tables]
        found.append(float(np.mean(np.array(values[::2]) - np.array(values[1::2]))))
    return float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(DESK))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="overrides of both recipes")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    arguments = parser.parse_args()
    name = arguments.data
    differences: list[float] = []
    pairs: list[tuple[Run, Run]] = []
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        for seed in arguments.seeds:
            if name == "banking77":
                train, test = out / f"banking77-{seed}.csv", SHARED / "data" / "banking77" / "test.csv"
                noisy(SHARED / "data" / "banking77" / "train.csv", train, seed)
            else:
                train, test = REPO / "examples/claims/train.csv", REPO / "examples/claims/test.csv"
            runs = {}
            for kind, steps in (("desk", DESK[name]), ("raw", [])):
                recipe = {**RECIPE[name], "name": f"{name}-{seed}-{kind}", "seed": seed}
                recipe["data"] = {**recipe["data"], "path": str(train), "test": str(test), "prepare": steps}
                runs[kind] = attune.train(recipe, arguments.set, out=out)
            pairs.append((runs["desk"], runs["raw"]))
            result = compare(runs["desk"], runs["raw"])
            differences.append(result["difference"])
            print(f"seed {seed}: {result['sentence']}", flush=True)
        low, high = pooled(pairs)
    spread = stdev(differences) if len(differences) > 1 else float("nan")
    print(
        f"{name}: desk minus raw {mean(differences):+.4f} macro-F1 (95 % interval over the test rows {low:+.4f} to "
        f"{high:+.4f}), spread {spread:.4f}, n = {len(differences)} seeds"
    )


if __name__ == "__main__":
    main()
