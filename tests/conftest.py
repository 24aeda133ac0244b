"""What all tests share: a chat server, the marker `gpu`, and a list of skips by reason at the end."""

import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def loaded(path: Path) -> ModuleType:
    """A file below tests/ that is a script too, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tests/train/tiny_run.py: a small real training run."""
    return loaded(Path(__file__).parent / "train" / "tiny_run.py")


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    """tests/chat_server.py as a process of its own."""
    with loaded(Path(__file__).with_name("chat_server.py")).started() as server:
        yield server


@pytest.fixture
def server(running: Any) -> Any:
    """The same, well-behaved at the start of every test."""
    running.plan()
    return running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` skip where there is none; torch is asked only if there are such tests."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """`make test` ends with what did not run, and why."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(
        str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")
        for report in reports
    )
    terminalreporter.write_sep("-", f"{len(reports)} skipped")
    for reason, number in reasons.most_common():
        terminalreporter.write_line(f"{number:5}  {reason}")
