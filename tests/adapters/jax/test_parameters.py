"""Arrays by name, and back into their tree."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import neuroactivity as na
from neuroactivity_jax import parameters, write
from tests.adapters.jax.models import KEY, NNXModel, X
from tests.adapters.jax.test_layers import patterns, tree


def test_names_are_paths_and_wrappers_have_none():
    model = nnx.eval_shape(NNXModel)
    state = nnx.state(model, nnx.Param)
    names = list(parameters(state))
    assert names[:3] == ["attn/key/bias", "attn/key/kernel", "attn/out/bias"]
    assert "layers/0/kernel" in names
    as_pure = nnx.as_pure if hasattr(nnx, "as_pure") else nnx.pure  # its name in Flax 0.12.0
    assert set(parameters(model)) == set(parameters(as_pure(state))) == set(names)
    boxed = jax.eval_shape(
        nn.Dense(2, kernel_init=nn.with_partitioning(nn.initializers.ones, (None, None))).init, KEY, X
    )
    assert list(parameters(boxed)) == ["params/bias", "params/kernel"]
    assert list(patterns(boxed)) == ["params"]
    assert list(parameters(eqx.nn.MLP(2, 2, 4, 1, key=KEY))) == [
        f"layers/{i}/{leaf}" for i in (0, 1) for leaf in ("weight", "bias")
    ]
    assert list(patterns({"kernel": np.zeros((2, 3))})) == ["kernel"]
    with pytest.raises(na.LayoutError, match="two arrays of the tree are called 'a/b'"):
        parameters({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}})


def test_write_replaces_arrays_by_name():
    for params in (
        tree(a__kernel=(2, 3), a__bias=(3,)),
        nnx.Linear(2, 3, rngs=nnx.Rngs(0)),
        eqx.nn.Linear(2, 3, key=KEY),
    ):
        name, value = next(iter(parameters(params).items()))
        written = write(params, {name: value + 1})
        assert type(written) is type(params)
        np.testing.assert_array_equal(parameters(written)[name], value + 1)
        np.testing.assert_array_equal(parameters(params)[name], value)
        others = [other for other in parameters(params) if other != name]
        assert all(parameters(written)[other] is parameters(params)[other] for other in others)
        with pytest.raises(na.LayoutError, match="parameter 'nope' is not in the tree; there are"):
            write(params, {"nope": value})
        with pytest.raises(na.LayoutError, match=rf"parameter '{name}': expected shape .* and dtype float32, got"):
            write(params, {name: value[..., None]})
