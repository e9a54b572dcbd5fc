"""Of a user's initialiser only what is needed is drawn, unless its parts together are longer than the whole."""

import jax
import jax.numpy as jnp
import pytest

import neuroactivity as na
from neuroactivity_jax.drawing import draw_needed, needed_params


@pytest.mark.parametrize("compiled_by_user", [False, True])
@pytest.mark.parametrize(("parameters", "conditions"), [(2, 2), (3, 0)])
def test_an_initializer_whose_parts_share_most_of_it_is_called_as_it_is(parameters, conditions, compiled_by_user):
    names = [f"w{number}" for number in range(parameters)]

    def fresh(key):
        value = jax.random.key_data(key).astype(jnp.float32)
        for _ in range(30):
            value = value + 1
        return dict.fromkeys(names, value)

    initializer = jax.jit(fresh) if compiled_by_user else fresh
    needed = dict.fromkeys(names, jnp.asarray(True))
    program = jax.make_jaxpr(lambda key, needed: draw_needed(initializer, key, needed))(jax.random.key(0), needed)
    assert str(program).count("cond[") == conditions


@pytest.mark.parametrize("outgoing", ["zero", "small", "fresh", "keep"])
def test_a_parameter_is_needed_where_one_of_its_groups_has_neurons_to_reset(outgoing):
    first, second = (na.ParamView("shared", "neuron", index=index) for index in ((0, 1, -1, -1), (-1, -1, 0, 1)))
    a = na.NeuronGroup("a", [("a", "in neuron"), first], outgoing=[("b", "neuron out")])
    c = na.NeuronGroup("c", [("c", "in neuron"), second])
    layout = na.Layout([a, c, na.dense("head", weight=("head", "in neuron"), resettable=False)])
    masks = {"a": jnp.array([False, True]), "c": jnp.array([False, False]), "head": jnp.array([True])}
    needed = {name: bool(wanted) for name, wanted in needed_params(masks, layout, outgoing).items()}
    drawn = {"b": True} if outgoing in ("small", "fresh") else {}
    assert needed == {"a": True, "shared": True, "c": False, **drawn}
