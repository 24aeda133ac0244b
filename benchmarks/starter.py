"""Bits per byte of a base on held-out text, and two samples: the figures of the starter's card.

    python benchmarks/starter.py TEXT_FILE [TEXT_FILE ...] [--base starter]

Each file is read whole (UTF-8), scored in windows of 512 tokens that share their first token with the window before.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from attune.data.batch import Loader
from attune.data.examples import Example, ExampleStore
from attune.generate.engine import Engine
from attune.model import machine
from attune.model.load import load_model, load_tokenizer
from attune.model.policy import Policy
from attune.recipe import Model

WINDOW = 512


def windows(ids: list[int], vocab: int) -> ExampleStore:
    made = []
    for start in range(0, len(ids) - 1, WINDOW - 1):
        part = np.array(ids[start : start + WINDOW], dtype=np.int32)
        weight = np.ones(len(part), dtype=np.float32)
        weight[0] = 0
        made.append(Example(part, weight))
    return ExampleStore.of(made, vocab_size=vocab)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--base", default="starter")
    asked = parser.parse_args()
    machine.prepare()
    settings = Model(base=asked.base)
    tokenizer = load_tokenizer(settings)
    policy = Policy(load_model(settings, head="lm"), head="lm")
    layout = policy.settle()
    policy.to(torch.bfloat16 if machine.fast_bfloat16() else torch.float32).eval()
    for path in asked.files:
        text = path.read_text(encoding="utf-8")
        store = windows(tokenizer(text, add_special_tokens=False)["input_ids"], len(tokenizer))
        nats = 0.0
        with torch.inference_mode():
            for batch in Loader(store, seed=0, batch_size=1, layout=layout).all(8192):
                nats -= float((policy(batch).logp * batch.weight).sum())
        size = len(text.encode())
        print(f"{path.name}: {nats / math.log(2) / size:.4f} bits per byte over {size:,} bytes")
    engine = Engine(policy.model, tokenizer, stop_ids=[tokenizer.eos_token_id], device="cpu")
    for prompt in ("The river", "The doctor said that"):
        [made] = engine.generate([tokenizer(prompt)["input_ids"]], max_new_tokens=40, temperature=0.7, seed=0)
        print(f"{prompt}|{engine.text(made.ids)}")


if __name__ == "__main__":
    main()
