"""Steps whose answers the trained model writes itself, scored by its teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attune.data.batch import Batch, collate, micro_batches
from attune.data.examples import Example

if TYPE_CHECKING:
    from attune.data.batch import Loader
    from attune.generate.engine import Engine
    from attune.model.policy import Policy

__all__ = ["OnPolicy"]


class OnPolicy:
    """A `Loader` in which a share of the steps is sampled from the model as it is now.

    Which steps, which prompts and which draws depend on (seed, step) alone; with the weights they give the answers, so
    that a step stays a pure function of (seed, step, weights) and a resumed run writes the same.
    Source: Agarwal et al. 2023 (arXiv:2306.13649), algorithm 1, drawn by step.
    Checked: tests/train/test_on_policy.py (resume bit-identical).
    """

    def __init__(
        self,
        loader: Loader,
        engine: Engine,
        teacher: Policy,
        *,
        share: float,
        k: int,
        warmth: float,
        sampling_temperature: float,
        max_new_tokens: int,
        packs: bool,
        vocab: int,
    ):
        self.loader, self.engine, self.teacher = loader, engine, teacher
        self.share, self.k, self.warmth = share, k, warmth
        self.sampling_temperature, self.max_new_tokens = sampling_temperature, max_new_tokens
        self.packs, self.vocab = packs, vocab

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def is_own(self, step: int) -> bool:
        """Whether the student writes the answers of this step."""
        return bool(np.random.default_rng([self.loader.seed, step, 7]).random() < self.share)

    def batches(self, step: int, micro_batch_tokens: int | None = None) -> list[Batch]:
        """As `Loader.batches`, with columns in `tokens` that the teacher has just made."""
        if not self.is_own(step):
            return [self._marked(batch, 0.0) for batch in self.loader.batches(step, micro_batch_tokens)]
        chosen = self.loader.examples_of(step)
        rows = self._written(step, [self.loader.store[int(number)] for number in chosen])
        lengths = np.array([len(row) for row in rows])
        groups = micro_batches(lengths, micro_batch_tokens, padded=self.loader.layout == "padded")
        return [self._scored([rows[number] for number in group], chosen[group].tolist()) for group in groups]

    def _written(self, step: int, rows: list[Example]) -> list[Example]:
        """The prompts (all before the first scored token) with the answers that the model gives now."""
        prompts = [row.ids[: int(np.flatnonzero(row.weight)[0])].tolist() for row in rows]
        answers: list[list[int]] = [[] for _ in rows]
        network = self.engine.model
        was_training = network.training
        try:
            self.engine.generate(
                prompts,
                max_new_tokens=self.max_new_tokens,
                temperature=self.sampling_temperature,
                seed=int(np.random.default_rng([self.loader.seed, step, 8]).integers(2**31)),
                on_token=lambda row, token: answers[row].append(token),  # the stop token too
            )
        finally:
            network.train(was_training)
        found = []
        for row, prompt, answer in zip(rows, prompts, answers):
            weight = np.zeros(len(prompt) + len(answer), dtype=np.float32)
            weight[len(prompt) :] = 1
            found.append(
                Example(np.array([*prompt, *answer], dtype=np.int32), weight, record=row.record, turn=row.turn)
            )
        return found

    def _scored(self, rows: list[Example], index: list[int]) -> Batch:
        order = np.argsort([-len(row) for row in rows], kind="stable")  # as the packed layout orders them
        rows, index = [rows[number] for number in order], [index[number] for number in order]
        loader = self.loader
        batch = collate(rows, layout=loader.layout, pad_id=loader.pad_id, scored="next", index=index)
        same = self.packs or loader.layout == "padded"
        asked = batch if same else collate(rows, layout="padded", pad_id=loader.pad_id, scored="next")
        ids, logp = self.teacher.top(asked.to(self.engine.device), self.k, self.warmth, self.vocab)
        batch.tokens |= {"teacher_ids": ids.cpu(), "teacher_logp": logp.cpu()}
        batch.tokens["teacher_temperature"] = torch.full_like(batch.weight, self.warmth)
        return self._marked(batch, 1.0)

    @staticmethod
    def _marked(batch: Batch, own: float) -> Batch:
        batch.tokens["own"] = torch.full_like(batch.weight, own)
        return batch
