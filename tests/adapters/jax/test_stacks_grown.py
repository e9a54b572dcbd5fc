"""Random residual networks with normalisations: of members in one array all is found that is found of one alone."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity_jax import layout_of
from tests.adapters.jax.models import KEY, X


def on_a_sphere(x):
    """Divide by the length, whose gradient is NaN at zero, as SimbaV2's code does."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-8)


class Scaler(nn.Module):
    """A learned factor for each feature, in no group."""

    @nn.compact
    def __call__(self, x):
        return self.param("scaler", nn.initializers.ones, (x.shape[-1],)) * x


CHOICES = {
    "norm": ("layer", "root mean square", "none"),
    "width": (12, 6),
    "around": ("stream", "sphere", "behind", "chain"),
    "bias": (True, False),
}


class Block(nn.Module):
    """Two layers, with what is chosen in front of the first, behind the second, and around both."""

    norm: str
    width: int
    around: str
    bias: bool

    @nn.compact
    def __call__(self, x):
        norms = {"layer": nn.LayerNorm, "root mean square": nn.RMSNorm, "none": lambda: lambda x: x}
        inner = nn.relu(nn.Dense(self.width, use_bias=self.bias, name="up")(norms[self.norm]()(x)))
        inner = nn.Dense(x.shape[-1], use_bias=self.bias, name="down")(inner)
        if self.around == "sphere":
            return on_a_sphere(x + Scaler()(on_a_sphere(inner) - x))
        if self.around == "behind":
            return nn.LayerNorm(name="post")(x + inner)
        return x + inner if self.around == "stream" else nn.tanh(inner)


class Critic(nn.Module):
    """A layer, blocks, and a head behind a normalisation or none."""

    blocks: tuple[tuple[str, int, str, bool], ...]
    last: bool
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="embed")(x)
        for options in self.blocks:
            x = Block(*options)(x)
        return nn.Dense(2, name="head")(nn.LayerNorm()(x) if self.last else x)


def found(module: nn.Module) -> dict[str, na.NeuronGroup]:
    """The groups of a module, by name without what ``vmap`` adds to it."""
    params = jax.jit(module.init)(KEY, X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", na.ActivityWarning)  # scalers are in no group
        layout = layout_of(params, lambda params: module.apply(params, X))
    return {name.replace("Vmap", ""): group for name, group in layout.items()}


def members(module: Critic, count: int) -> nn.Module:
    """Several of a module in one array."""
    axes = {"in_axes": None, "variable_axes": {"params": 0}, "split_rngs": {"params": True}, "axis_size": count}
    return nn.vmap(Critic, **axes)(module.blocks, last=module.last, width=module.width)


def test_members_on_a_sphere_are_found_as_one_alone_would_be():
    layout = found(members(Critic((("none", 12, "sphere", False),), last=False, width=8), 2))
    statuses = {name.removeprefix("params/"): group.status for name, group in layout.items()}
    assert statuses == {"Block_0/down": "shared", "Block_0/up": "exclusive", "embed": "shared", "head": "head"}


@pytest.mark.slow
def test_members_of_random_networks_are_found_as_one_alone():
    blocks = st.lists(st.tuples(*map(st.sampled_from, CHOICES.values())), min_size=1, max_size=2).map(tuple)

    @settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
    @given(blocks, st.booleans(), st.sampled_from((8, 5)), st.sampled_from((1, 2, 3)))
    def run(blocks, last, width, count):
        critic = Critic(blocks, last=last, width=width)
        alone, stacked = found(critic), found(members(critic, count))
        for name, group in alone.items():
            assert (stacked[name].status, stacked[name].stacks) == (group.status, 1), name
            fed = [(view.param, f"stack {view.pattern}", view.index) for view in group.outgoing]
            assert [(view.param, view.pattern, view.index) for view in stacked[name].outgoing] == fed

    run()
