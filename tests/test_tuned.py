"""A finished run's model answers texts as it was trained and measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attune import flow


@pytest.mark.parametrize("truncate", ["right", "left", "error", "window"])
def test_a_long_request_is_cut_as_in_training(truncate: str, tmp_path: Path) -> None:
    kinds = {"refund": "my money back", "login": "cannot sign in", "delivery": "the parcel is late"}
    rows = [f"{words} case {number},{kind}" for number in range(12) for kind, words in kinds.items()]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = {
        "model": {"base": "starter", "layers": [0], "dtype": "float32"},
        "adapter": "full",
        "data": {
            "path": str(tmp_path / "tickets.csv"),
            "max_length": 16,
            "truncate": truncate,
            "split": {"near": False},
        },
        "train": {"max_steps": 1, "batch_size": 8, "threads": 1, "early_stopping": None},
        "objective": {"name": "classify", "head_init": "random"},
    }
    model = flow.train(recipe, out=tmp_path / "runs", assess=False).load()
    long = "please where is my parcel it is late again and nobody writes back since Monday"
    more = [f"{long} unread words", f"unread words {long}"]
    whole, behind, before = np.array(model.predict([long, *more]).scores)
    assert np.allclose(whole, behind, atol=1e-6) == (truncate == "right")
    assert np.allclose(whole, before, atol=1e-6) == (truncate == "left")
