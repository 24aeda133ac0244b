"""A small real training run, for tests and as the subprocess that they kill.

As a script, `python tiny_run.py FOLDER STEPS...` reads one word a line from stdin and forks a fresh training for each:
libraries are loaded once, so that twenty killed trainings take seconds.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attune import plugins
from attune.data.batch import Loader
from attune.data.examples import Example, ExampleStore
from attune.data.mix import Mix
from attune.model.parallel import Parallel
from attune.model.policy import Policy
from attune.objectives.base import Objective
from attune.recipe import Train
from attune.train import checkpoint
from attune.train.loop import Progress, fit
from attune.train.optim import Masters

VOCAB = 64


def objective() -> Objective:
    plugin: Any = plugins.get("objective", "sft")
    return plugin(plugin.Config())


def model(*, adapter: str = "full", dropout: float = 0.0, seed: int = 0, hidden: int = 32) -> Policy:
    """A tiny Llama (attention dropout) with LoRA (dropout on its inputs) or all weights trained."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=hidden, intermediate_size=3 * hidden // 2, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, attention_dropout=dropout,
    )  # fmt: skip
    torch.manual_seed(seed)
    plugin: Any = plugins.get("adapter", adapter)
    options = plugin.Config(r=4, dropout=dropout) if adapter == "lora" else plugin.Config()
    return Policy(plugin(options).attach(transformers.LlamaForCausalLM(config), head="lm"), head="lm")


def base(folder: Path, *, hidden: int = 32) -> str:
    """A folder with an untrained Llama of one layer and the starter's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from attune.model.load import STARTER

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden // 2, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def store(n: int = 24, seed: int = 3) -> ExampleStore:
    """Each text counts upwards from a random start, so there is something to learn."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        length = int(rng.integers(5, 20))
        ids = (rng.integers(4, VOCAB) + np.arange(length)) % (VOCAB - 4) + 4
        weight = np.ones(length, dtype=np.float32)
        weight[: length // 3 + 1] = 0
        rows.append(Example(ids.astype(np.int32), weight, record=number))
    return ExampleStore.of(rows, vocab_size=VOCAB)


def train(
    folder: Path,
    *,
    steps: int = 12,
    adapter: str = "full",
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
    policy: Policy | None = None,
    settings: dict[str, Any] | None = None,
    layout: str = "packed",
    mix: Mix | None = None,
    **arguments: Any,
) -> tuple[Progress, dict[str, torch.Tensor]]:
    """`fit` on the tiny model; returns where it ended and a copy of its weights."""
    policy = policy or model(adapter=adapter, dropout=dropout)
    if layout == "packed":
        assert policy.settle() == "packed", policy.notes
    chosen = Train(**{"learning_rate": 1e-2, "batch_size": 6, "keep_checkpoints": 99, **(settings or {})})
    masters = Masters(policy, chosen, dtype=dtype)
    loader = Loader(store(), seed=0, batch_size=6, layout=layout, mix=mix)
    progress = fit(
        policy, objective(), loader, masters, chosen, total_steps=steps, folder=folder, fingerprint="tiny",
        parallel=Parallel(), **{"save_every": 1, "micro_batch_tokens": 48, **arguments},
    )  # fmt: skip
    return progress, {name: value.clone() for name, value in masters.weights().items()}


def digest(weights: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def go_on(folder: Path, steps: int) -> str:
    """Start, or resume from the newest whole checkpoint; the digest of the final weights."""
    resume, _ = checkpoint.latest(folder)
    _, weights = train(folder, steps=steps, dropout=0.1, resume=resume, save_every=2)
    return digest(weights)


def serve() -> None:
    """Each line `FOLDER STEPS` starts one training in a fork, whose pid is printed at once."""
    torch.set_num_threads(1)
    model().settle()  # everything lazy is imported before the forks
    print("ready", flush=True)
    for line in sys.stdin:
        folder, steps = line.split()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                Path(folder).parent.joinpath("digest").write_text(go_on(Path(folder), int(steps)))
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(status, flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        torch.set_num_threads(1)
        print(go_on(Path(sys.argv[1]), int(sys.argv[2])))
    else:
        serve()
