"""How much the base needs each of its weights: the diagonal of its Fisher information on text it should keep."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attune.durable import fsync
from attune.errors import MachineError

if TYPE_CHECKING:
    from attune.data.batch import Batch
    from attune.model.policy import Policy

__all__ = ["fisher", "cached_fisher"]


def fisher(policy: Policy, batches: Sequence[Batch], names: Sequence[str]) -> dict[str, Tensor]:
    """Mean over texts of the squared gradient of a text's log-probability, divided by its mean over all weights.

    One batch holds one text. The texts are given, not drawn from the model (the empirical Fisher). `names` are
    parameters of the policy.
    Source: Kirkpatrick et al. 2017 (arXiv:1612.00796); Kunstner et al. 2019 (arXiv:1905.12558) on the empirical one.
    """
    parameters = dict(policy.named_parameters())
    chosen = {name: parameters[name] for name in names}
    wanted = {name: parameter.requires_grad for name, parameter in parameters.items()}
    was_training = policy.training
    policy.eval()
    sums = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in chosen.items()}
    try:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in chosen)
        for batch in batches:
            logp = policy(batch.to(next(iter(chosen.values())).device)).logp.sum()
            gradients = torch.autograd.grad(logp, list(chosen.values()), allow_unused=True)
            for total, gradient in zip(sums.values(), gradients):
                if gradient is not None:
                    total.add_(gradient.float().square())
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(wanted[name])
        policy.train(was_training)
    mean = sum(float(total.double().sum()) for total in sums.values()) / sum(total.numel() for total in sums.values())
    return {name: total / max(mean, 1e-30) for name, total in sums.items()}


def cached_fisher(
    policy: Policy, batches: Sequence[Batch], names: Sequence[str], *, base: str, cache: Path
) -> dict[str, Tensor]:
    """`fisher`, kept by content: the same base (its fingerprint), texts and weights are never gone through twice.

    Raises: MachineError if the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    digest = hashlib.sha256(json.dumps([base, sorted(names)]).encode())
    for batch in batches:
        digest.update(batch.input_ids.numpy().tobytes() + batch.src.numpy().tobytes())
    path = cache / f"fisher-{digest.hexdigest()[:24]}.safetensors"
    if path.exists():
        return load_file(path)
    found = fisher(policy, batches, names)
    partial = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous().cpu() for name, value in found.items()}, partial)
        fsync(partial)
        os.rename(partial, path)
        fsync(cache)
    except (OSError, SafetensorError) as error:
        raise MachineError(
            f"the importances of weights could not be written to {cache}", why=str(error), fix="free disk space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return found
