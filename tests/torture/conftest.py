import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Models this small are slower on many threads, most of all on a busy machine."""
    torch.set_num_threads(1)
