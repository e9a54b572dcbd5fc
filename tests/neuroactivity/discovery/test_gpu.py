"""On a CUDA device every test model's layout is found as on the CPU, in TF32 too, which rounds to three digits."""

import copy

import pytest
import torch
from torch.utils import _pytree as pytree

from neuroactivity_torch import layout_of
from tests.neuroactivity.discovery.models import EXAMPLES
from tests.neuroactivity.discovery.truth import contradictions, shapes_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture(autouse=True)
def in_tf32():
    """Let PyTorch multiply matrices in TF32, as it convolves by default."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def _to_device(inputs):
    return pytree.tree_map(lambda leaf: leaf.cuda() if isinstance(leaf, torch.Tensor) else copy.copy(leaf), inputs)


@pytest.mark.parametrize("name", EXAMPLES)
def test_status_and_outgoing_entries_are_true(name):
    example = EXAMPLES[name]
    model = example.model().cuda()
    layout = layout_of(model, *_to_device(example.inputs), **example.options)
    assert contradictions(layout, example.truth, shapes_of(model)) == []
