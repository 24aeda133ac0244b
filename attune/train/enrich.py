"""One pass of a frozen model over a store: its log-probabilities become columns that training reads from disk.

The columns are kept by content: the same examples, teacher, k and temperature are never scored twice, and a pass that
was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from attune.data.batch import collate, micro_batches
from attune.durable import fsync, write_json
from attune.errors import DivergedError, MachineError

if TYPE_CHECKING:
    from attune.model.policy import Policy

__all__ = ["enrich"]

CHUNK = 256
"""Examples between two saves; sorted by length inside a chunk."""


def enrich(
    store: Any,
    policy: Policy,
    *,
    teacher: str,
    cache: Path,
    name: str = "teacher",
    k: int = 32,
    temperature: float = 1.0,
    dtype: str = "float32",
    layout: str = "padded",
    pad_id: int = 0,
    batch_tokens: int = 8192,
    vocab: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Any:
    """The store with the frozen policy's k likeliest tokens at every scored position, as memory-mapped columns.

    Columns: `<name>_ids` [M, K], `<name>_logp` [M, K + 1] (last: all other tokens together) and `<name>_temperature`
    [M]; a batch with them makes the trained policy return `Scores.topk[name]` over the same tokens. `teacher` is what
    identifies the frozen weights (a hash). A base under an adapter is scored inside `policy.model.disable_adapter()`.
    `vocab`: only the first so many tokens count, where the trained model has fewer.

    Raises: DivergedError if the policy's scores are not finite; MachineError if the disk is full.
    """
    size = policy.config.get_text_config().vocab_size
    vocab = min(vocab or size, size)
    k = min(k, vocab)
    facts = {
        "store": store.content_hash,
        "teacher": teacher,
        "k": k,
        "temperature": temperature,
        "dtype": dtype,
        "vocab": vocab,
        "layout": layout,
        "batch_tokens": batch_tokens,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache / f"scores-{key}"
    if not (folder / "scores.json").exists():
        _score(store, policy, folder, facts, pad_id=pad_id, say=say)
    return store.with_columns(
        {
            f"{name}_ids": np.load(folder / "ids.npy", mmap_mode="r", allow_pickle=False),
            f"{name}_logp": np.load(folder / "logp.npy", mmap_mode="r", allow_pickle=False),
            f"{name}_temperature": np.broadcast_to(np.float32(temperature), (int(store.scored[-1]),)),
        }
    )


def _score(
    store: Any, policy: Policy, folder: Path, facts: dict[str, Any], *, pad_id: int, say: Callable[[str], None]
) -> None:
    """Fill `folder`, by way of a partial one that survives a kill."""
    partial = folder.with_name(f".part-{folder.name}")
    rows, k = int(store.scored[-1]), facts["k"]
    shapes = {
        "ids": ((rows, k), np.uint16 if facts["vocab"] < 65536 else np.int32),
        "logp": ((rows, k + 1), np.dtype(facts["dtype"])),
    }
    started = time.monotonic()
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _owned(partial):
            if (folder / "scores.json").exists():  # another process was faster
                return
            done = _done(partial, facts)
            arrays = {
                name: np.lib.format.open_memmap(
                    partial / f"{name}.npy", mode="r+" if done else "w+", dtype=kind, shape=shape
                )
                for name, (shape, kind) in shapes.items()
            }
            if done:
                say(f"teacher: going on after {done:,} of {len(store):,} examples")
            for start in range(done, len(store), CHUNK):
                end = min(start + CHUNK, len(store))
                for where, ids, logp in _passes(store, policy, start, end, facts, pad_id):
                    arrays["ids"][where], arrays["logp"][where] = ids, logp
                for array in arrays.values():
                    array.flush()
                write_json(partial / "progress.json", {"facts": facts, "done": end})
            seconds = round(time.monotonic() - started, 2)
            del arrays
            write_json(partial / "scores.json", {**facts, "rows": rows, "seconds": seconds})
            (partial / "progress.json").unlink(missing_ok=True)
            os.rename(partial, folder)
            fsync(folder.parent)
    except OSError as error:
        raise MachineError(
            f"the teacher's scores could not be written to {folder}", why=str(error), fix="free disk space"
        ) from error
    say(f"teacher: scored {rows:,} positions in {seconds:.1f} s, {k} tokens each; kept in {folder}")


class _owned:
    """Only one process fills a folder; a dead owner's claim ends with it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None:
        import fcntl

        self.file = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self.file)


def _done(partial: Path, facts: dict[str, Any]) -> int:
    """Examples that are scored already; 0 where what was left is of other facts or unreadable."""
    try:
        progress = json.loads((partial / "progress.json").read_text())
        return int(progress["done"]) if progress["facts"] == facts else 0
    except (OSError, ValueError, KeyError):
        return 0


@torch.no_grad()
def _passes(
    store: Any, policy: Policy, start: int, end: int, facts: dict[str, Any], pad_id: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(rows of the columns, ids, log-probabilities) of the examples from `start` to `end`, by forward passes."""
    was_training = policy.training
    policy.eval()
    device = next(policy.parameters()).device
    try:
        groups = micro_batches(store.lengths[start:end], facts["batch_tokens"], padded=facts["layout"] == "padded")
        for group in groups:
            numbers = [start + int(number) for number in group]
            examples = [store[number] for number in numbers]
            batch = collate(examples, layout=facts["layout"], pad_id=pad_id, scored="next", index=numbers)
            ids, logp = policy.top(batch.to(device), facts["k"], facts["temperature"], facts["vocab"])
            if bool(torch.isnan(logp).any()):
                raise DivergedError(
                    "the teacher's scores are not finite", fix="load it in float32: model.dtype=float32"
                )
            assert batch.index is not None
            where = [np.arange(*store.scored[[number, number + 1]]) for number in batch.index.tolist()]
            yield np.concatenate(where), ids.cpu().numpy(), logp.cpu().numpy()
    finally:
        policy.train(was_training)
