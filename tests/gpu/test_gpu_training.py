"""On a CUDA device: the same numbers as on a CPU, resuming, memory that runs out, and a run from the command line."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attune.data.batch import collate
from attune.data.examples import Example
from attune.model.policy import Policy
from attune.recipe import Model
from attune.train import checkpoint

pytestmark = pytest.mark.gpu

LENGTHS = (200, 31, 87, 5, 150, 64)


def examples(vocab: int, seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    rows = []
    for length in LENGTHS:
        weight = np.ones(length, dtype=np.float32)
        weight[0] = 0
        rows.append(Example(rng.integers(4, vocab, length).astype(np.int32), weight))
    return rows


def starter(device: str, dtype: torch.dtype, layout: str) -> Policy:
    from attune.model.load import load_model

    policy = Policy(load_model(Model(), head="lm"), head="lm").to(device)
    assert policy.settle(layout=layout) == layout, policy.notes
    return policy.to(dtype)


def logp(policy: Policy, layout: str) -> torch.Tensor:
    """Scores of the examples, in their own order."""
    rows = examples(policy.config.vocab_size)
    batch = collate(rows, layout=layout, index=range(len(rows))).to(next(policy.parameters()).device)
    with torch.no_grad():
        scores = policy(batch).logp.double().cpu()
    owner = batch.index.cpu()[batch.seq.cpu()]
    return torch.cat([scores[owner == number] for number in range(len(rows))])


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize(("dtype", "worst", "mean"), [(torch.float32, 2e-3, 2e-4), (torch.bfloat16, 0.5, 0.03)])
def test_scores_equal_those_of_a_cpu(layout: str, dtype: torch.dtype, worst: float, mean: float) -> None:
    reference = logp(starter("cpu", torch.float32, "padded"), "padded")
    found = logp(starter("cuda", dtype, layout), layout)
    difference = (found - reference).abs()
    assert float(difference.max()) <= worst and float(difference.mean()) <= mean


def test_packed_neighbours_do_not_see_each_other_in_bfloat16() -> None:
    policy = starter("cuda", torch.bfloat16, "packed")
    rows = examples(policy.config.vocab_size)
    other = copy.deepcopy(rows)
    other[0].ids[1:] = np.roll(other[0].ids[1:], 3)  # the longest stands first in a packed row
    with torch.no_grad():
        one, two = (policy(collate(part, layout="packed").to("cuda")).logp for part in (rows, other))
    assert torch.equal(one[LENGTHS[0] - 1 :], two[LENGTHS[0] - 1 :])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_bit_identical(tiny: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    _, whole = tiny.train(tmp_path, steps=8, policy=tiny.model(dropout=0.1).cuda(), dtype=dtype)
    for path in (tmp_path / "step-000005", tmp_path / "step-000002"):
        _, again = tiny.train(
            tmp_path, steps=8, policy=tiny.model(dropout=0.1).cuda(), dtype=dtype, resume=checkpoint.verify(path)
        )
        assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_memory_that_runs_out_cuts_the_same_step_finer(tiny: Any, tmp_path: Path) -> None:
    """Real memory: the process may hold a little more than the small forward needs."""

    def peak(folder: str, limit: int) -> tuple[int, dict[str, torch.Tensor]]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        policy = tiny.model(hidden=512).cuda()
        _, weights = tiny.train(tmp_path / folder, steps=2, policy=policy, micro_batch_tokens=limit)
        return torch.cuda.max_memory_allocated(), weights

    total = torch.cuda.get_device_properties(0).total_memory
    small, whole = peak("small", 48)
    large, _ = peak("large", 10_000)
    assert large > small
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((small + (large - small) / 3) / total)
    try:
        progress, cut = tiny.train(
            tmp_path / "cut", steps=2, policy=tiny.model(hidden=512).cuda(), micro_batch_tokens=10_000
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert progress.micro_batch_tokens < 10_000 and any("out of memory" in note for note in progress.notes)
    for name, value in whole.items():
        assert torch.allclose(value, cut[name], atol=1e-3), name


def test_written_answers_equal_those_of_a_cpu() -> None:
    from attune.generate.engine import Engine
    from attune.model.load import load_model, load_tokenizer

    tokenizer = load_tokenizer(Model())
    prompts = [tokenizer("The river runs")["input_ids"], tokenizer("In the morning the old man")["input_ids"]]
    answers = []
    for device in ("cpu", "cuda"):
        model = load_model(Model(), head="lm").to(device).eval()
        engine = Engine(model, tokenizer, stop_ids=[tokenizer.eos_token_id], device=device)
        answers.append([list(one.ids) for one in engine.generate(prompts, max_new_tokens=16)])
    assert answers[0] == answers[1]


def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    rows = [("my parcel is late", "delivery"), ("I cannot sign in", "login"), ("my money back please", "refund")]
    lines = [f"{text} case {number},{kind}" for number in range(40) for text, kind in rows]
    (tmp_path / "small.csv").write_text("\n".join(["note,kind", *lines]) + "\n")
    command = [sys.executable, "-m", "attune.cli", "run", "small.csv", "--target", "kind", "--json"]
    command += ["--set", "train.max_steps=8", "--set", "evaluate.baselines=[majority,tfidf]"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    facts = json.loads((tmp_path / found["run"] / "data" / "training.json").read_text())
    assert facts["device"].startswith("cuda") and facts["dtype"] == "bfloat16" and facts["peak_memory_gib"] > 0
