"""One pass of a frozen model over a store, kept on disk: right numbers, once, and across a kill."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run

from attune.data.batch import collate
from attune.data.examples import ExampleStore
from attune.data.mix import Joined
from attune.data.prepared import Windows
from attune.train import enrich as enriching
from attune.train.enrich import enrich

K = 5


def scored(store: Any, cache: Path, **options: Any) -> Any:
    return enrich(store, tiny_run.model(), **{"teacher": "tiny", "cache": cache, "k": K, **options})


def expected(store: Any, temperature: float = 1.0) -> torch.Tensor:
    """[M, V] log-probabilities, one example at a time, by the plain model."""
    model = tiny_run.model().model
    rows = []
    for example in store:
        ids = torch.from_numpy(example.ids.astype(np.int64))[None]
        with torch.no_grad():
            logp = (model(input_ids=ids).logits[0] / temperature).log_softmax(-1)
        rows.append(logp[np.flatnonzero(example.weight) - 1])
    return torch.cat(rows)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_columns_hold_the_likeliest_tokens_and_the_rest(tmp_path: Path, temperature: float) -> None:
    store = tiny_run.store()
    found = scored(store, tmp_path, temperature=temperature)
    wanted = expected(store, temperature).topk(K)
    assert np.array_equal(found.columns["teacher_ids"], wanted.indices.numpy())
    np.testing.assert_allclose(found.columns["teacher_logp"][:, :K], wanted.values.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.exp(found.columns["teacher_logp"]).sum(1), 1, atol=1e-5)
    assert set(found.columns["teacher_temperature"]) == {np.float32(temperature)}
    assert found.content_hash != store.content_hash


def test_a_batch_carries_each_examples_own_columns_in_every_layout(tmp_path: Path) -> None:
    store = scored(tiny_run.store(), tmp_path)
    chosen = [3, 0, 7]
    for layout in ("padded", "packed"):
        batch = collate([store[number] for number in chosen], layout=layout, index=chosen)
        assert batch.index is not None
        parts = [store.columns["teacher_logp"][store.scored[n] : store.scored[n + 1]] for n in batch.index.tolist()]
        assert np.array_equal(batch.tokens["teacher_logp"].numpy(), np.concatenate(parts))
        assert batch.tokens["teacher_ids"].dtype == torch.int64 and len(batch.tokens["teacher_ids"]) == len(batch.src)


def test_the_same_pass_is_made_once(tmp_path: Path) -> None:
    said: list[str] = []
    first = scored(tiny_run.store(), tmp_path, say=said.append)
    again = scored(tiny_run.store(), tmp_path, say=said.append)
    assert len(said) == 1 and first.content_hash == again.content_hash
    scored(tiny_run.store(), tmp_path, k=4, say=said.append)
    scored(tiny_run.store(), tmp_path, teacher="another", say=said.append)
    scored(tiny_run.store(seed=9), tmp_path, say=said.append)
    assert len(said) == 4 and len(list(tmp_path.iterdir())) == 4


def test_a_killed_pass_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enriching, "CHUNK", 4)
    whole = scored(tiny_run.store(), tmp_path / "whole")
    passes, seen = enriching._passes, []

    def killed(store: Any, policy: Any, start: int, end: int, *rest: Any) -> Any:
        if start == 12 and len(seen) == 3:
            seen.append(-1)
            raise KeyboardInterrupt
        seen.append(start)
        return passes(store, policy, start, end, *rest)

    monkeypatch.setattr(enriching, "_passes", killed)
    with pytest.raises(KeyboardInterrupt):
        scored(tiny_run.store(), tmp_path / "cut")
    resumed = scored(tiny_run.store(), tmp_path / "cut")
    assert seen == [0, 4, 8, -1, 12, 16, 20]  # nothing twice
    assert resumed.content_hash == whole.content_hash


def test_a_corpus_of_windows_takes_columns_too(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(4, tiny_run.VOCAB, (6, 12)).astype(np.uint16)
    store = Windows(rows)
    found = scored(store, tmp_path)
    np.testing.assert_allclose(
        found.columns["teacher_logp"][:, :K], expected(store[n] for n in range(6)).topk(K).values.numpy(), atol=1e-5
    )
    assert found[2].columns["teacher_ids"].shape == (11, K)
    assert found.content_hash != store.content_hash != Windows(rows[::-1]).content_hash


def test_joined_stores_take_the_columns_of_their_parts(tmp_path: Path) -> None:
    parts = [tiny_run.store(7, seed=1), tiny_run.store(5, seed=2)]
    joined = scored(Joined(parts), tmp_path)
    alone = scored(parts[1], tmp_path)
    np.testing.assert_allclose(joined[9].columns["teacher_logp"], alone[2].columns["teacher_logp"], atol=1e-5)
    assert joined.content_hash != Joined(parts).content_hash


def test_columns_survive_saving_and_gathering(tmp_path: Path) -> None:
    store = scored(tiny_run.store(), tmp_path)
    loaded = ExampleStore.load(store.save(tmp_path / "s"), verify=True)
    gathered = ExampleStore.of(iter(store), vocab_size=tiny_run.VOCAB)
    for other in (loaded, gathered):
        assert other.content_hash == store.content_hash
        assert np.array_equal(other[5].columns["teacher_logp"], store[5].columns["teacher_logp"])
