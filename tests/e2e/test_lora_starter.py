"""LoRA on the bundled starter: few weights train, and the folder loads in plain PEFT, in a script without attune."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import attune

SCRIPT = """
import json, sys
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
folder = sys.argv[1]
model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = tokenizer("A claim was filed on 3 May.", return_tensors="pt")["input_ids"]
with torch.no_grad():
    logits = model(input_ids=ids).logits[0, -1, :50]
assert not any(name.startswith("attune") for name in sys.modules)
print(json.dumps({"ids": ids[0].tolist(), "logits": logits.tolist(), "stop": model.generation_config.eos_token_id}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> attune.Run:
    folder = tmp_path_factory.mktemp("lora")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} plus one?"},
                {"role": "assistant", "content": str(n + 1)},
            ]
        }
        for n in range(60)
    ]
    data = folder / "sums.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "adapter": {"type": "lora", "r": 8},
        "data": {"path": str(data), "split": {"near": False, "test": 0.2}},
        "train": {"max_steps": 6, "learning_rate": 2e-3, "early_stopping": None},
        "track": ["tensorboard"],
    }
    return attune.train(recipe, out=folder / "runs", assess=False)


def test_few_weights_train(run: attune.Run) -> None:
    facts = json.loads((run.path / "data" / "training.json").read_text())
    assert 0 < facts["trained_weights"] / facts["weights"] <= 0.04


def test_plain_peft_gives_equal_logits(run: attune.Run) -> None:
    import torch

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(run.model_dir)], capture_output=True, text=True, cwd=run.path, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    tuned = run.load()
    with torch.no_grad():
        ours = tuned.policy.model(input_ids=torch.tensor([theirs["ids"]])).logits[0, -1, :50]
    assert torch.allclose(ours, torch.tensor(theirs["logits"]), atol=1e-5)
    base = tuned.policy.model.get_base_model()
    with tuned.policy.model.disable_adapter(), torch.no_grad():
        untuned = base(input_ids=torch.tensor([theirs["ids"]])).logits[0, -1, :50]
    assert not torch.allclose(ours, untuned, atol=1e-3), "the adapter does nothing"


def test_tensorboard_mirrors_the_metrics(run: attune.Run) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    shown = [event.value for event in events.Scalars("loss")]
    logged = [row["loss"] for row in run.history()]
    assert shown == pytest.approx(logged, rel=1e-6)
    assert Path(run.path / "metrics.jsonl").exists()
