"""The tuned model's answers, from the same scores that training uses."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attune.data.batch import Loader
from attune.data.labelling import spans_of, tag_layout, words_of
from attune.evaluate.predictions import Predictions
from attune.model.machine import Gathered

if TYPE_CHECKING:
    from attune.data.render import Renderer
    from attune.model.policy import Policy
    from attune.objectives.base import Objective
    from attune.records import Record

__all__ = ["score_store", "predict_labels", "predict_text"]


@torch.no_grad()
def score_store(
    policy: Policy, objective: Objective, store: Any, *, layout: str, pad_id: int, batch_tokens: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """One pass over a store: the objective's mean terms, and the raw scores.

    Shapes: `out` [M, C] with `example` [M] (which example each row belongs to, in the store's order) for heads;
    `logp` [M], `weight` [M], `example` [M] for language models.
    """
    was_training = policy.training
    policy.eval()
    device = next(policy.parameters()).device
    loader = Loader(store, seed=0, batch_size=1, layout=layout, pad_id=pad_id, scored=objective.scored)
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    rows: dict[str, Gathered] = defaultdict(Gathered)
    for batch in loader.all(batch_tokens):
        batch = batch.to(device)
        scores = policy(batch)
        for key, value in objective.terms(scores, batch).items():
            sums[key] = sums.get(key, 0.0) + float(value)
        for key, value in objective.counts(batch).items():
            counts[key] = counts.get(key, 0.0) + float(value)
        assert batch.index is not None
        rows["example"].add(batch.index[batch.seq.cpu()])
        rows["weight"].add(batch.weight)
        if scores.out is not None:
            rows["out"].add(scores.out.float())
        if scores.logp is not None:
            rows["logp"].add(scores.logp.double())
    policy.train(was_training)
    order = np.argsort(rows["example"].rows, kind="stable")
    joined = {key: parts.rows[order] for key, parts in rows.items()}
    return {key: sums[key] / max(counts[key], 1e-12) for key in sums}, joined


def predict_labels(
    policy: Policy,
    objective: Objective,
    store: Any,
    records: list[Record],
    renderer: Renderer,
    *,
    layout: str,
    pad_id: int,
    batch_tokens: int = 4096,
    system: str = "tuned",
) -> tuple[Predictions, float]:
    """Outputs of a classification, regression or tagging head for every record, and the mean loss.

    A record cut into several windows is answered by the mean of their scores.
    """
    started = time.monotonic()
    means, rows = score_store(policy, objective, store, layout=layout, pad_id=pad_id, batch_tokens=batch_tokens)
    loss = sum(means.values())
    owner = np.asarray(store.records)[rows["example"]]
    predictions = Predictions(system, [], labels=list(objective.labels))
    if objective.head == "token":
        best = rows["out"].argmax(-1)
        for number, record in enumerate(records):
            words = words_of(record)
            tags = ["O"] * len(words)
            scored = [word for _, _, numbers in tag_layout(renderer, record) for word in numbers]
            for word, tag in zip(scored, best[owner == number], strict=True):
                tags[word] = objective.labels[tag]
            predictions.outputs.append(spans_of(tags, words))
    else:
        width = rows["out"].shape[1]
        total = np.zeros((len(records), width))
        seen = np.zeros(len(records))
        np.add.at(total, owner, rows["out"].astype(np.float64))
        np.add.at(seen, owner, 1)
        out = total / np.maximum(seen, 1)[:, None]  # a record that was dropped for its length has no answer
        if objective.task == "regression":
            predictions.outputs = [float(value) for value in out[:, 0]]
        elif objective.task == "multilabel":
            chance = 1 / (1 + np.exp(-out))
            predictions.scores = chance
            names = np.array(objective.labels)
            predictions.outputs = [tuple(names[row > 0.5].tolist()) for row in chance]
        else:
            shifted = np.exp(out - out.max(1, keepdims=True))
            predictions.scores = shifted / shifted.sum(1, keepdims=True)
            predictions.outputs = [objective.labels[number] for number in out.argmax(1)]
        predictions.outputs = [output if n else None for output, n in zip(predictions.outputs, seen, strict=True)]
    predictions.seconds = time.monotonic() - started
    return predictions, loss


def predict_text(
    policy: Policy,
    objective: Objective,
    store: Any,
    records: list[Record],
    *,
    layout: str,
    pad_id: int,
    batch_tokens: int = 4096,
    system: str = "tuned",
) -> tuple[Predictions, float]:
    """Log-probability of the reference answers (no generation), and the mean loss.

    Shapes: Predictions.logp [N, 2]: summed nats and the tokens they cover, by record (by window for a corpus).
    """
    started = time.monotonic()
    means, rows = score_store(policy, objective, store, layout=layout, pad_id=pad_id, batch_tokens=batch_tokens)
    owner = np.asarray(store.records)[rows["example"]] if hasattr(store, "records") else rows["example"]
    logp = np.zeros((len(records) if records else len(store), 2))
    np.add.at(logp[:, 0], owner, rows["logp"] * rows["weight"])
    np.add.at(logp[:, 1], owner, rows["weight"])
    predictions = Predictions(system, [""] * len(logp), logp=logp, seconds=time.monotonic() - started)
    return predictions, sum(means.values())
