"""A recipe of every other tool, imported and trained for two steps through the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from attune.model.load import STARTER

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "interop" / "fixtures"
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
CHAT = [
    {"from": "human", "value": "What is {0} plus one?"},
    {"from": "gpt", "value": "It is {1}."},
]


def attune(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attune.cli", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with the starter's tokenizer, rows as the recipes name them, and the recipes."""
    folder = tmp_path_factory.mktemp("import")
    tokenizer = transformers.AutoTokenizer.from_pretrained(STARTER)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        max_position_embeddings=512,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    sums = [{"instruction": f"What is {n} plus one?", "input": "", "output": f"It is {n + 1}."} for n in range(60)]
    talks = [[{**turn, "value": turn["value"].format(n, n + 1)} for turn in CHAT] for n in range(60, 120)]
    for name, rows in {
        "rows.jsonl": sums[:40],
        "more.jsonl": sums[40:],
        "chats.json": [{"dialogue": talk} for talk in talks[:40]],
        "chats_too.json": [{"dialogue": talk} for talk in talks[40:]],
    }.items():
        (folder / name).write_text("\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows))
    with (
        open(ROOT / "examples" / "claims" / "test.csv", newline="", encoding="utf-8") as claims,
        open(folder / "claims.csv", "w", newline="", encoding="utf-8") as kept,
    ):
        writer = csv.writer(kept)
        writer.writerow(["text", "label"])
        writer.writerows([row["note"], row["claim_type"]] for row in list(csv.DictReader(claims))[:120])
    for path in FIXTURES.iterdir():
        shutil.copy(path, folder / path.name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "tool"),
    [
        ("axolotl.yml", "Axolotl"),
        ("llama_factory.yaml", "LLaMA-Factory"),
        ("trl.yaml", "TRL"),
        ("ms_swift.sh", "ms-swift"),
        ("unsloth.py", "Unsloth"),
    ],
)
def test_an_imported_recipe_trains(file: str, tool: str, folder: Path) -> None:
    recipe = f"{file}.recipe.yaml"
    told = json.loads(attune("import", file, "--out", recipe, "--json", cwd=folder).stdout)
    assert told["tool"] == tool and told["next"] == f"attune train {recipe}"
    changes = ["model.base=tiny", "model.revision=null", "data.split.near=false", f"name={file.split('.')[0]}"]
    attune("train", recipe, *changes, "--no-evaluate", cwd=folder)
    run = folder / "runs" / file.split(".")[0]
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "trained" or status["state"] == "done", status
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == 2
    assert list((run / "model").iterdir())


def test_import_refuses_to_write_over_a_file_and_says_what_it_made(folder: Path) -> None:
    done = attune("import", "axolotl.yml", "--out", "mine.yaml", cwd=folder)
    assert done.stdout.rstrip().endswith("attune train mine.yaml")
    assert "mapped (" in done.stdout and "dropped (" in done.stdout and "frobnicate_level" in done.stdout
    command = [sys.executable, "-m", "attune.cli", "import", "axolotl.yml", "--out", "mine.yaml"]
    again = subprocess.run(command, cwd=folder, env=ENV, capture_output=True, text=True, timeout=600)
    assert again.returncode == 2 and "mine.yaml exists" in again.stderr
