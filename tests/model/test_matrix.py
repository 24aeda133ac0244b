"""Every architecture on the page, measured; and the page itself is current."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architectures", Path(__file__).with_name("architectures.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


matrix = _load()
PACKED = {
    "Llama",
    "Llama, tied",
    "Llama, classifier",
    "Qwen3",
    "Qwen3-MoE",
    "Gemma 3",
    "Mistral",
    "Phi-3",
    "GPT-2",
    "GPT-NeoX",
}
PACKED |= {"Granite", "Cohere"}  # with the library's own head
REFUSED = {"BART, tagger": "cannot tag words"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Rows measured so far, for the page's test at the end."""
    import torch

    torch.set_num_threads(1)
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", matrix.CONFIGS)
def test_architecture(name: str, measured: dict, tmp_path: Path) -> None:
    row = measured[name] = matrix.measure(name, tmp_path)
    if name in REFUSED:
        assert REFUSED[name] in row.refused
        return
    assert not row.refused
    assert row.difference <= 1e-5
    assert row.packs == (name in PACKED)
    assert row.packed_difference <= 1e-5 if row.packs else row.notes
    assert row.lora and row.full and row.resumes
    assert max(row.saved_difference.values()) <= 1e-5


@pytest.mark.slow
def test_the_page_is_current(measured: dict) -> None:
    if set(measured) != set(matrix.CONFIGS):
        pytest.skip("only a part of the matrix was measured in this process")
    page = matrix.page([measured[name] for name in matrix.CONFIGS])
    assert matrix.PAGE.read_text(encoding="utf-8") == page, "run python tests/model/architectures.py"


def test_the_page_has_a_line_for_every_architecture() -> None:
    lines = matrix.PAGE.read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")][1:] == list(
        matrix.CONFIGS
    )
