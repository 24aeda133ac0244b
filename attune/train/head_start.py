"""A label head that starts where a linear model on the untrained base's features ends, instead of at random."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from attune.data.batch import collate, micro_batches
from attune.model.machine import Gathered

if TYPE_CHECKING:
    from attune.data.batch import Loader
    from attune.model.policy import Policy
    from attune.objectives.base import Objective

__all__ = ["start_head"]

CELLS = 10_000_000
"""Features kept for the linear model at most, positions x width (40 MB); more positions are sampled."""
STRENGTH = 0.1
"""Inverse regularisation (scikit-learn's C) on standardised features."""


def start_head(policy: Policy, objective: Objective, loader: Loader, *, batch_tokens: int, dtype: torch.dtype) -> str:
    """Fit a linear model on the base's own features of the training examples and write it into the head.

    A random head sends random gradients through the base in the first steps and distorts what it knows. Returns a line
    that says what was done, or why not. `dtype` is what training will compute in.
    Source: LP-FT, Kumar et al. 2022 (arXiv:2202.10054).
    """
    head = _last_linear(policy, _outputs(objective))
    if head is None:
        return "head: starts at random, since this base's head does not end in a linear layer"
    features, targets = _features(policy, head, loader, batch_tokens, dtype)
    biased = head.bias is not None
    centre, scale = features.mean(0) if biased else 0.0, features.std(0) + 1e-6
    fitted = _fit(objective, (features - centre) / scale, targets, head.out_features, biased=biased)
    if fitted is None:
        return "head: starts at random, since the training data has one class only"
    weight = fitted[0] / scale
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        if biased:
            head.bias.copy_(torch.from_numpy(fitted[1] - weight @ centre))
    return f"head: starts as a linear model on the base's features of {len(features):,} training positions"


def _outputs(objective: Objective) -> int:
    return 1 if objective.task == "regression" else len(objective.labels)


def _last_linear(policy: Policy, outputs: int) -> nn.Linear | None:
    """The trained layer that makes the scores; under PEFT it is the copy that trains."""
    fitting = [
        module
        for module in policy.inner.modules()
        if isinstance(module, nn.Linear) and module.out_features == outputs and module.weight.requires_grad
    ]
    return fitting[-1] if fitting else None


@torch.no_grad()
def _features(
    policy: Policy, head: nn.Linear, loader: Loader, batch_tokens: int, dtype: torch.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """What reaches the head at scored positions: [N, H] float64, and the targets."""
    caught: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    device = next(policy.parameters()).device
    store = loader.store
    order = np.random.default_rng([loader.seed, 1]).permutation(len(store))
    most = max(1, CELLS // head.in_features)
    was_training = policy.training
    policy.eval()
    features, targets = Gathered(), Gathered()
    try:
        # by chunks, so that sorting by length inside a chunk leaves the sample of a large set random
        for chunk in np.array_split(order, max(1, len(order) // 2048)):
            for group in micro_batches(store.lengths[chunk], batch_tokens, padded=loader.layout == "padded"):
                rows = [store[int(number)] for number in chunk[group]]
                batch = collate(rows, layout=loader.layout, pad_id=loader.pad_id, scored=loader.scored).to(device)
                caught.clear()
                # the weights are whole still, and a forward in them can take twice as long as one of training
                with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                    policy(batch)
                (hidden,) = caught
                if hidden.ndim == 3:  # virtual tokens stand before the real ones
                    hidden = hidden[:, hidden.shape[1] - batch.input_ids.shape[1] :]
                hidden = hidden.flatten(0, -2)
                if len(hidden) != len(batch.src):  # scored at every token: keep the positions that count
                    hidden = hidden.index_select(0, batch.src)
                features.add(hidden.double())
                targets.add(batch.target)
            if len(features.rows) >= most:
                break
    finally:
        handle.remove()
        policy.train(was_training)
    return features.rows[:most], targets.rows[:most]


def _fit(
    objective: Objective, features: np.ndarray, targets: np.ndarray, outputs: int, *, biased: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """(weight [C, H], bias [C]) of the linear model; classes that no example has get the lowest bias of the others."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from threadpoolctl import threadpool_limits

    # The run's threads: BLAS would take one for every core of the machine, whatever train.threads says.
    with warnings.catch_warnings(), threadpool_limits(torch.get_num_threads(), user_api="blas"):
        warnings.simplefilter("ignore")  # stopping before convergence is harmless: it is a start
        if objective.task == "regression":
            ridge = Ridge(alpha=1 / STRENGTH, fit_intercept=biased).fit(features, targets.reshape(-1))
            return ridge.coef_.reshape(1, -1), np.atleast_1d(ridge.intercept_)
        logistic: Any = LogisticRegression(C=STRENGTH, max_iter=100, fit_intercept=biased)
        weight, bias = np.zeros((outputs, features.shape[1])), np.zeros(outputs)
        if objective.task == "multilabel":
            for at in range(outputs):
                share = float(targets[:, at].mean())
                if 0 < share < 1:
                    logistic.fit(features, targets[:, at])
                    weight[at], bias[at] = logistic.coef_[0], logistic.intercept_[0]
                else:
                    bias[at] = 5.0 if share else -5.0
            return weight, bias
        present = np.unique(targets)
        if len(present) < 2:
            return None
        logistic.fit(features, targets)
        if len(present) == 2:  # scikit-learn keeps one row for two classes: half of it each way is the same model
            pair, offset = logistic.coef_[0] / 2, float(np.atleast_1d(logistic.intercept_)[0]) / 2
            weight[present], bias[present] = np.stack([-pair, pair]), np.array([-offset, offset])
        else:
            weight[present], bias[present] = logistic.coef_, logistic.intercept_
        missing = np.setdiff1d(np.arange(outputs), present)
        bias[missing] = bias[present].min() - 5.0
        return weight, bias
