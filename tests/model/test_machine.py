"""What a process keeps while it works."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from attune.model.machine import Gathered

SHAPES = """
import attune.model.machine as machine
import torch

layers = [torch.nn.Linear(256, 768, dtype=torch.bfloat16), torch.nn.Linear(768, 256, dtype=torch.bfloat16)]
for length in range(100, 400):
    x = torch.randn(length, 256, dtype=torch.bfloat16, requires_grad=True)
    layers[1](layers[0](x)).sum().backward()
    if length == 110:
        before = machine.peak_memory_gib()
print(1024 * (machine.peak_memory_gib() - before))
"""
"""Products of 300 lengths, forward and backward; prints how many MiB they added after the first ten."""


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="oneDNN multiplies bfloat16 with AVX512 only")
def test_new_lengths_do_not_add_up_in_memory() -> None:
    def added(**environment: str) -> float:
        env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        done = subprocess.run([sys.executable, "-c", SHAPES], capture_output=True, text=True, check=True, env=env)
        return float(done.stdout)

    usual = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}
    kept, bounded = added(**usual), added()
    assert kept > 50  # what libraries do by themselves, and what a user who sets the variables gets
    assert bounded < 0.3 * kept


PASS = """
import numpy as np, torch
import attune.model.machine as machine
from attune import plugins
from attune.data.examples import Example, ExampleStore
from attune.evaluate.predict import score_store
from attune.model.load import load_model
from attune.model.policy import Policy
from attune.recipe import Model

machine.prepare(1)
policy = Policy(load_model(Model(base="starter"), head="lm"), head="lm").to(torch.bfloat16)
layout = policy.settle()
ids = np.random.default_rng(0).integers(16, 8000, (60, 512), dtype=np.int32)
weight = np.ones(512, dtype=np.float32)
weight[0] = 0  # nothing stands before it
store = ExampleStore.of([Example(row, weight) for row in ids], vocab_size=8192)
pretrain = plugins.get("objective", "pretrain")
before = machine.peak_memory_gib()
score_store(policy, pretrain(pretrain.Config()), store, layout=layout, pad_id=3, batch_tokens=2048)
print(1024 * (machine.peak_memory_gib() - before))
"""
"""15 forwards of 2,048 tokens without gradients; prints the MiB they took. All logits of one are 64 MiB in float32."""


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_a_pass_without_gradients_takes_the_memory_of_one_forward() -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PASS], capture_output=True, text=True, check=True, env=env)
    assert float(done.stdout) < 250  # 62 here, 429 with all logits at once


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_gathered_rows_are_those_that_came(shape: tuple[int, ...]) -> None:
    gathered, parts = Gathered(), []
    assert len(gathered.rows) == 0
    for size in (1, 0, 4000, 5000, 7):
        parts.append(torch.randn(size, *shape, dtype=torch.float64))
        gathered.add(parts[-1])
    assert gathered.rows.dtype == np.float64
    np.testing.assert_array_equal(gathered.rows, torch.cat(parts).numpy())
