"""Copies that are not on the first axis, or that do not agree, are refused before anything is claimed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import neuroactivity as na
from neuroactivity_jax.layers import list_groups
from tests.adapters.jax.models import KEY


class ScannedBlock(nn.Module):
    """One of several layers whose copies lie on some axis of the parameters."""

    biased: bool

    @nn.compact
    def __call__(self, x, _):
        hidden = nn.relu(nn.Dense(16, use_bias=self.biased)(nn.LayerNorm()(x)))
        return x + nn.Dense(8, use_bias=self.biased)(hidden), None


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(("biased", "stacked"), [(True, None), (True, ["layers"]), (False, None), (False, ["layers"])])
def test_copies_on_another_axis_than_the_first_are_refused(axis, biased, stacked):
    block = nn.scan(ScannedBlock, variable_axes={"params": axis}, split_rngs={"params": True}, length=3)(biased)
    params = {"layers": jax.eval_shape(block.init, KEY, jnp.ones((2, 8)), None)["params"]}
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), params)
    with pytest.raises(na.LayoutError, match=r"parameter 'layers/.*stacked=|copies"):
        list_groups(params, stacked=stacked)


def test_copies_on_the_first_axis_are_found():
    block = nn.scan(ScannedBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)(True)
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(block.init, KEY, jnp.ones((2, 8)), None))
    groups, _ = list_groups(params)
    assert {group.name.split("/")[1]: group.incoming[0].pattern for group in groups} == {
        "Dense_0": "stack in neuron",
        "Dense_1": "stack in neuron",
        "LayerNorm_0": "stack neuron",
    }


def test_a_scale_of_two_axes_without_anything_stacked_beside_it_is_refused():
    params = {"norm": {"scale": jnp.ones((3, 8))}, "fc": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}}
    with pytest.raises(na.LayoutError, match="read as 3 copies, which no layer beside it has"):
        list_groups(params)
