"""The student writes, the teacher scores, in the loop: right columns, and bit-identical after a resume."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from attune.data.batch import Loader
from attune.generate.engine import Engine
from attune.model.parallel import Parallel
from attune.objectives.distill import Distill
from attune.recipe import Train
from attune.train import checkpoint
from attune.train.loop import fit
from attune.train.on_policy import OnPolicy
from attune.train.optim import Masters

STOP = 7


def loader_of(tiny: ModuleType, policy: Any, *, layout: str = "packed", share: float = 0.5) -> Any:
    teacher = tiny.model(seed=5).eval()
    packs = teacher.settle() == "packed"
    plain = Loader(tiny.store(), seed=0, batch_size=6, layout=layout)
    engine = Engine(policy.model, None, stop_ids=[STOP], device="cpu")
    return OnPolicy(plain, engine, teacher, share=share, k=6, warmth=1.0, sampling_temperature=1.0, max_new_tokens=8,
                    packs=packs, vocab=tiny.VOCAB)  # fmt: skip


def objective() -> Distill:
    return Distill(Distill.Config(teacher="t", mode="on_policy", alpha=0.8))


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_teacher_scores_what_the_student_wrote(tiny: ModuleType, layout: str) -> None:
    policy = tiny.model()
    policy.settle()
    policy.train()
    loader = loader_of(tiny, policy, layout=layout, share=1.0)
    batches = loader.batches(0, 40)
    assert policy.model.training and len(batches) > 1
    store, seen = loader.store, []
    for batch in batches:
        assert set(batch.tokens) == {"teacher_ids", "teacher_logp", "teacher_temperature", "own"}
        assert bool((batch.tokens["own"] == 1).all()) and int(torch.bincount(batch.seq).max()) <= 8
        assert batch.index is not None
        for number, example in enumerate(batch.index.tolist()):
            seen.append(example)
            row = store[example]
            prompt = row.ids[: int(np.flatnonzero(row.weight)[0])]
            answer = batch.target[batch.seq == number]
            ids = torch.cat([torch.from_numpy(prompt.astype(np.int64)), answer])
            assert STOP not in answer[:-1].tolist()  # an answer ends at its stop token, which is scored
            with torch.no_grad():
                logp = loader.teacher.model(input_ids=ids[None]).logits[0].log_softmax(-1)
            wanted = logp[len(prompt) - 1 : -1].topk(6)
            here = batch.seq == number
            assert torch.equal(batch.tokens["teacher_ids"][here], wanted.indices)
            torch.testing.assert_close(batch.tokens["teacher_logp"][here][:, :6], wanted.values, atol=1e-5, rtol=1e-4)
    assert sorted(seen) == sorted(loader.examples_of(0).tolist())


def test_some_steps_are_the_datas_own(tiny: ModuleType) -> None:
    loader = loader_of(tiny, tiny.model())
    own = [loader.is_own(step) for step in range(200)]
    assert 70 < sum(own) < 130
    step = own.index(False)
    assert all(float(batch.tokens["own"].sum()) == 0 for batch in loader.batches(step))


def test_a_step_depends_on_seed_step_and_weights_alone(tiny: ModuleType) -> None:
    policy = tiny.model()
    step = next(step for step in range(20) if loader_of(tiny, policy).is_own(step))
    first = loader_of(tiny, policy).batches(step)
    loader = loader_of(tiny, policy)
    loader.batches(step + 1)
    again = loader.batches(step)
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(first, again, strict=True))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    other = loader.batches(step)
    assert [a.input_ids.tolist() for a in first] != [b.input_ids.tolist() for b in other]


def train(tiny: ModuleType, folder: Path, resume: Any = None) -> str:
    policy = tiny.model(dropout=0.1)
    policy.settle()
    settings = Train(learning_rate=1e-2, batch_size=6, keep_checkpoints=99)
    masters = Masters(policy, settings, dtype=torch.float32)
    loader = loader_of(tiny, policy)
    columns = {"teacher_ids": (6, np.int64), "teacher_logp": (7, np.float32)}
    rows = int(loader.store.scored[-1])
    made = {name: np.resize(np.arange(width, dtype=kind), (rows, width)) for name, (width, kind) in columns.items()}
    made["teacher_logp"] = np.full_like(made["teacher_logp"], -np.log(7))
    loader.loader.store = loader.store.with_columns(made)
    fit(policy, objective(), loader, masters, settings, total_steps=10, folder=folder, fingerprint="x",
        parallel=Parallel(), save_every=1, micro_batch_tokens=48, resume=resume)  # fmt: skip
    return tiny.digest(masters.weights())


def test_resume_is_bit_identical(tiny: ModuleType, tmp_path: Path) -> None:
    whole = train(tiny, tmp_path / "whole")
    for step in (2, 5, 9):
        found = checkpoint.verify(tmp_path / "whole" / f"step-{step:06d}")
        assert train(tiny, tmp_path / f"from-{step}", resume=found) == whole
