"""How likely a model finds each label after each prompt: prompting without free text, so no answer is invalid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from attune.errors import DataError
from attune.generate.engine import SCORED_LOGITS, Engine
from attune.generate.state import Prefilled

__all__ = ["score_labels", "to_probabilities"]

SHARED_TOKENS = 16
"""A beginning that all prompts of a batch share is read once if it has at least this many tokens."""


@torch.inference_mode()
def score_labels(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    *,
    normalise: Literal["none", "tokens"] = "none",
    stop: bool = True,
) -> np.ndarray:
    """Log-likelihood (nats) of each label after each prompt; each prompt is read once for all labels.

    The engine's first stop token follows each label, so that "card" is not favoured over "card arrival";
    `stop=False` where the labels already carry their end. `tokens` divides by the number of scored tokens.

    Shapes: N prompts, C labels -> [N, C] float64.

    Raises: DataError for an empty prompt or label, or where prompt and label exceed the context.
    """
    ending = engine.stop_ids[:1] if stop else []
    answers = [[*label, *ending] for label in labels]
    for index, label in enumerate(labels):
        if not len(label):
            raise DataError(f"label {index + 1} has no tokens", fix="give every label a name")
    longest = max(map(len, answers), default=0)
    for index, prompt in enumerate(prompts):
        total = engine.virtual_tokens + len(prompt) + longest
        if not len(prompt):
            raise DataError(f"prompt {index + 1} is empty", why="a model needs at least one token to go on from")
        if engine.context_length is not None and total > engine.context_length:
            raise DataError(
                f"prompt {index + 1} has {len(prompt)} tokens and its labels up to {longest}",
                why=f"the model's context is {engine.context_length} tokens",
                fix="shorten the text or use fewer examples",
            )
    scores = np.zeros((len(prompts), len(answers)))
    shared: list[int] = []
    before: Prefilled | None = None
    for group in engine.batches([len(prompt) for prompt in prompts]):
        rows = [list(prompts[i]) for i in group]
        common = _common(rows) if engine.can_share_prefix and len(rows) > 1 else 0
        if common < SHARED_TOKENS:
            common = 0
        if rows[0][:common] != shared:
            shared = rows[0][:common]
            before = engine.prefill([shared]) if shared else None
        state = engine.prefill([row[common:] for row in rows], before)
        scores[group] = _after(engine, state, answers)
    if normalise == "tokens":
        scores /= np.array([len(answer) for answer in answers])
    return scores


def _common(rows: list[list[int]]) -> int:
    """Length of the beginning that all rows share, leaving each at least one token."""
    low, high = min(rows), max(rows)
    limit = min(map(len, rows)) - 1
    return next((at for at in range(limit) if low[at] != high[at]), limit)


def _after(engine: Engine, state: Prefilled, answers: list[list[int]]) -> np.ndarray:
    """Log-likelihood [B, C] of each answer after each row of `state`.

    The first token is scored by the prompt's own logits, the rest by feeding each answer but its last token.
    """
    first = torch.tensor([answer[0] for answer in answers], device=state.mask.device)
    scores = state.logits.log_softmax(-1)[:, first].double()
    long = sorted((c for c in range(len(answers)) if len(answers[c]) > 1), key=lambda c: answers[c])
    if not long:
        return scores.cpu().numpy()
    if not engine.can_branch:
        return (scores + _repeated(engine, state, answers, long)).cpu().numpy()
    count, most = state.mask.shape[0], max(1, SCORED_LOGITS // engine.vocab_size)
    # Neighbours in alphabetical order share beginnings, so cutting the list cuts few of the tree's branches.
    per_tree = max(1, most * len(long) // sum(len(answers[c]) - 1 for c in long))
    for at in range(0, len(long), per_tree):
        part = long[at : at + per_tree]
        tree = _Tree([answers[c] for c in part])
        rows = max(1, most // len(tree.tokens))
        for low in range(0, count, rows):
            some = slice(low, low + rows)
            here = state if rows >= count else state.rows(torch.arange(count, device=state.mask.device)[some])
            scores[some, part] += tree.scores(engine.branch(here, tree.tokens, tree.parents))
    return scores.cpu().numpy()


class _Tree:
    """Labels laid out so that what they share at their beginning is read once."""

    def __init__(self, answers: list[list[int]]):
        self.tokens: list[int] = []
        self.parents: list[int] = []
        nodes: dict[tuple[int, ...], int] = {}
        edges: dict[tuple[int, int], int] = {}
        steps: list[tuple[int, int]] = []
        """(edge, label): each label is the sum of its edges. An edge is a node and the token that follows it."""
        for label, answer in enumerate(answers):
            parent = -1
            for at in range(1, len(answer)):
                start = tuple(answer[:at])
                if start not in nodes:
                    nodes[start] = len(self.tokens)
                    self.tokens.append(answer[at - 1])
                    self.parents.append(parent)
                parent = nodes[start]
                steps.append((edges.setdefault((parent, answer[at]), len(edges)), label))
        self.edges = torch.tensor(list(edges))
        self.steps = torch.tensor(steps)
        self.count = len(answers)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Shapes: logits [B, n, V] after each node -> [B, labels] nats."""
        edges, steps = self.edges.to(logits.device), self.steps.to(logits.device)
        total = torch.stack([row.float().logsumexp(-1) for row in logits])
        each = logits[:, edges[:, 0], edges[:, 1]].double() - total[:, edges[:, 0]].double()
        sums = torch.zeros(logits.shape[0], self.count, dtype=torch.float64, device=logits.device)
        return sums.index_add(1, steps[:, 1], each[:, steps[:, 0]])


def _repeated(engine: Engine, state: Prefilled, answers: list[list[int]], long: list[int]) -> torch.Tensor:
    """The same where labels cannot share a row: the prompt's cache is repeated for each (prompt, label) pair."""
    count, device = state.mask.shape[0], state.mask.device
    scores = torch.zeros(count, len(answers), dtype=torch.float64, device=device)
    sizes = sorted(long, key=lambda c: len(answers[c]))
    pairs = [(b, c) for c in sizes for b in range(count)]
    width, longest = state.mask.shape[1], len(answers[sizes[-1]])
    size = max(1, min(engine.batch_tokens // (width + longest), SCORED_LOGITS // (longest * engine.vocab_size)))
    for at in range(0, len(pairs), size):
        chunk = pairs[at : at + size]
        ids, mask = engine.pad([answers[c][:-1] for _, c in chunk], left=False)
        targets, _ = engine.pad([answers[c][1:] for _, c in chunk], left=False)
        keep = mask.bool()
        rows = torch.tensor([b for b, _ in chunk], device=device)
        logits, _, _ = engine.extend(state.rows(rows), ids, mask, keep)
        logits = logits.float()
        each = logits.gather(1, targets[keep][:, None])[:, 0] - logits.logsumexp(-1)
        sums = torch.zeros(len(chunk), dtype=torch.float64, device=device)
        sums = sums.index_add(0, keep.nonzero()[:, 0], each.double())
        scores[rows, torch.tensor([c for _, c in chunk], device=device)] = sums
    return scores


def to_probabilities(scores: np.ndarray) -> np.ndarray:
    """Probability of each label, given that one of them is the answer. Shapes: [N, C] nats -> [N, C]."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
