import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tests/train/tiny_run.py, which is a script too."""
    script = Path(__file__).parents[1] / "train" / "tiny_run.py"
    spec = importlib.util.spec_from_file_location("tiny_run", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
