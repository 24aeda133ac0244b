import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tests/train/tiny_run.py, which is a script too."""
    spec = importlib.util.spec_from_file_location("tiny_run", Path(__file__).parents[1] / "train" / "tiny_run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Models this small are slower on many threads, most of all on a busy machine."""
    torch.set_num_threads(1)
