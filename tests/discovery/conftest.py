"""Small models on a shared machine: one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Compute with one thread, and put the number back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
