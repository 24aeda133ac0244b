"""What a process keeps while it works."""

import os
import subprocess
import sys

import pytest
import torch

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
