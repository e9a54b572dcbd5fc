"""Train one small network on eight devices in every way, and on one.

A program that test_devices.py runs; its arguments choose cells.
"""

import fnmatch
import functools
import sys
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import neuroactivity as na
from neuroactivity_jax import redo, regrama, report, summary
from tests.adapters.jax.releases import AxisType

AXES = "in neuron"
LAYOUT = na.Layout(
    [
        na.dense("a", weight=("a/w", AXES), bias="a/b", outgoing=[("c/w", "neuron out")]),
        na.dense("c", weight=("c/w", AXES), bias="c/b", outgoing=[("o/w", "neuron out")]),
    ]
)


def initial(key):
    """Draw the network's parameters."""
    shapes = {"a": (8, 16), "c": (16, 24), "o": (24, 8)}
    keys = jax.random.split(key, 3)
    draw = jax.nn.initializers.he_normal()
    return {
        name: {"w": draw(k, shape), "b": jnp.zeros(shape[1])}
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def make_params():
    """Make parameters of which four neurons are dead."""
    params = jax.tree.map(np.array, initial(jax.random.key(0)))
    params["a"]["b"][[3, 9]] = params["c"]["b"][[0, 17]] = -50
    return params


def outputs(params, x, places=(None,) * 3):
    """Run the network; ``places`` say how each layer's outputs are sharded."""
    found = {}
    for name, place in zip("aco", places, strict=True):
        w, b = params[name]["w"], params[name]["b"]
        x = (jnp.einsum("bi,ij->bj", x, w, out_sharding=place) if place else x @ w) + b
        found[name] = x = x if name == "o" else jax.nn.relu(x)
    return found


def loss(params, x, y, places=(None,) * 3):
    return jnp.mean((outputs(params, x, places)["o"] - y) ** 2)


OPTIONS = {"tau": 0.05, "every": 2}
WRAPPERS = {
    "regrama": lambda: regrama(optax.adam(1e-2), LAYOUT, **OPTIONS),
    "drawn": lambda: regrama(optax.adamw(1e-2), LAYOUT, initializer=initial, outgoing="small", **OPTIONS),
    "run": lambda: regrama(optax.sgd(1e-2, momentum=0.9), LAYOUT, clock="run", max_fraction=0.2, **OPTIONS),
    "batches": lambda: regrama(optax.adam(1e-2), LAYOUT, batches=2, protect=1, lowest=0.1, **OPTIONS),
    "redo": lambda: redo(optax.adam(1e-2), LAYOUT, **OPTIONS),
}
BATCHES = np.random.default_rng(0).normal(size=(5, 2, 32, 8)).astype("float32")


def stepper(tx, kind, places=(None,) * 3, *, axis=None, checked=False, whole=lambda params: params):
    """Make a training step; with an ``axis``, it averages over it what the wrapper is given.

    Where ``shard_map`` is ``checked``, JAX itself sums up gradients of parameters that are the same on all devices.
    """

    def step(params, state, x, y):
        def read(params):
            return outputs(whole(params), x, places)

        def loss(params):
            value = jnp.mean((read(params)["o"] - y) ** 2)
            return lax.pmean(value, axis) if checked else value

        def averaged(a):
            return lax.pmean(jnp.abs(a).mean(0), axis) if axis else a

        grads = jax.grad(loss)(params)
        grads = lax.pmean(grads, axis) if axis and not checked else grads
        extra = {"activations": lambda: jax.tree.map(averaged, read(params))} if kind == "redo" else {}
        updates, state = tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return step


@functools.cache
def on_one_device(kind):
    tx, params = WRAPPERS[kind](), make_params()
    state, step = tx.init(params), jax.jit(stepper(tx, kind))
    for x, y in BATCHES:
        params, state = step(params, state, x, y)
    assert state.neurons_reset >= 4, state.neurons_reset
    return params, state


def compare(kind, params, state):
    """Compare with one device: what is counted exactly, what is measured up to rounding."""
    expected, found = (jax.tree_util.tree_leaves_with_path(tree) for tree in (on_one_device(kind), (params, state)))
    for (path, a), (_, b) in zip(expected, found, strict=True):
        exact = not jnp.issubdtype(a.dtype, jnp.floating)
        tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 2e-4, "atol": 2e-6}
        np.testing.assert_allclose(b, a, **tolerance, err_msg=jax.tree_util.keystr(path))


def same_on_all(tree):
    for leaf in jax.tree.leaves(tree):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 8
        assert all(np.array_equal(copy, copies[0], equal_nan=True) for copy in copies)


COLUMNS, ROWS, EVERYWHERE = (
    {"w": P(None, "model"), "b": P("model")},
    {"w": P("model", None), "b": P()},
    {"w": P(), "b": P()},
)
WHOLE = {"w": P("data", None), "b": P("data")}
MESHES = {  # sizes of axes, parameters by layer, batch, outputs of the layers
    "data": ({"data": 8}, (EVERYWHERE,) * 3, P("data"), (None,) * 3),
    "model": ({"model": 8}, (COLUMNS, ROWS, COLUMNS), P(), (P(None, "model"), P(None, None), P(None, "model"))),
    "both": (
        {"data": 2, "model": 4},
        (COLUMNS, COLUMNS, ROWS),
        P("data"),
        (P("data", "model"), P("data", "model"), P("data", None)),
    ),
    "zero": ({"data": 8}, (WHOLE,) * 3, P("data"), (P("data", None),) * 3),  # parameters in parts, gathered for use
}


def sharded_setup(name, explicit):
    """Make a mesh, sharded parameters, a function that shards a batch, and options of :func:`stepper`."""
    sizes, layers, batch, places = MESHES[name]
    kinds = (AxisType.Explicit if explicit else AxisType.Auto,) * len(sizes)
    mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=kinds)

    def put(array, spec):
        return jax.device_put(array, NamedSharding(mesh, spec))

    params = jax.tree.map(put, make_params(), dict(zip("aco", layers, strict=True)))
    options = {}
    if explicit and places[0]:
        options["places"] = tuple([NamedSharding(mesh, place) for place in places])
    if explicit and name == "zero":
        options["whole"] = lambda params: jax.tree.map(lambda a: jax.sharding.reshard(a, P(*[None] * a.ndim)), params)
    return mesh, params, lambda x: put(x, batch), options


def sharded(name, kind, *, explicit, compiled=True):
    mesh, params, put, options = sharded_setup(name, explicit)
    start = params
    with jax.set_mesh(mesh):
        tx = WRAPPERS[kind]()
        step = stepper(tx, kind, **options)
        step = jax.jit(step) if compiled else step
        state = (jax.jit(tx.init) if compiled else tx.init)(params)
        for x, y in BATCHES:
            params, state = step(params, state, put(x), put(y))
        figures = jax.jit(summary)(state)
    compare(kind, params, state)
    expected = on_one_device(kind)[1]
    assert report(state, LAYOUT).total.reset == report(expected, LAYOUT).total.reset
    for key, value in summary(expected).items():
        np.testing.assert_allclose(figures[key], value, rtol=1e-5, err_msg=key)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(params), strict=True):
        assert before.sharding.is_equivalent_to(after.sharding, after.ndim), (before.sharding, after.sharding)


def pmapped(kind):
    tx = WRAPPERS[kind]()
    step = jax.pmap(stepper(tx, kind, axis="i"), axis_name="i")

    def copies(tree):
        return jax.tree.map(lambda a: np.broadcast_to(a, (8, *np.shape(a))), tree)

    params, state = copies(make_params()), copies(tx.init(make_params()))
    for x, y in BATCHES:
        params, state = step(params, state, x.reshape(8, 4, 8), y.reshape(8, 4, 8))
        jax.block_until_ready(params)  # on few cores XLA's threads may stand still with two programs under way
    same_on_all((params, state))
    compare(kind, *jax.tree.map(lambda a: a[0], (params, state)))


def mapped(kind, *, checked, explicit=False):
    """Shard the batch by ``shard_map``; ``checked`` is its ``check_vma``."""
    mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Explicit if explicit else AxisType.Auto,))
    tx = WRAPPERS[kind]()
    step = stepper(tx, kind, axis="i", checked=checked)
    specs = {"in_specs": (P(), P(), P("i"), P("i")), "out_specs": (P(), P())}
    step = jax.jit(jax.shard_map(step, mesh=mesh, **specs, check_vma=checked))
    params, state = make_params(), tx.init(make_params())
    with jax.set_mesh(mesh):
        for batch in BATCHES:
            params, state = step(params, state, *jax.device_put(tuple(batch), NamedSharding(mesh, P("i"))))
    same_on_all((params, state))
    compare(kind, params, state)


def members(kind, *, checked):
    """Give each device a run of its own, the first of which is the one that was trained on one device."""
    tx, mesh = WRAPPERS[kind](), jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))

    def run(params):
        params = jax.tree.map(lambda a: a[0], params)

        def step(carry, batch):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params, *batch), state, params)
            return (optax.apply_updates(params, updates), state), None

        carry, _ = lax.scan(step, (params, tx.init(params)), (BATCHES[:, 0], BATCHES[:, 1]))
        return jax.tree.map(lambda a: a[None], carry)

    several = jax.tree.map(lambda a: np.stack([a * (1 + i / 10) for i in range(8)]), make_params())
    runs = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=P("i"), out_specs=P("i"), check_vma=checked))(several)
    compare(kind, *jax.tree.map(lambda a: a[0], runs))


CELLS = {
    f"{'explicit' if explicit else 'automatic'} {name} {kind}": partial(sharded, name, kind, explicit=explicit)
    for kind in WRAPPERS
    for explicit in (False, True)
    for name in MESHES
}
CELLS |= {f"uncompiled {name} run": partial(sharded, name, "run", explicit=True, compiled=False) for name in MESHES}
CELLS |= {f"pmap {kind}": partial(pmapped, kind) for kind in WRAPPERS}
CELLS |= {f"shard_map unchecked {kind}": partial(mapped, kind, checked=False) for kind in WRAPPERS}
CELLS |= {f"shard_map explicit {kind}": partial(mapped, kind, checked=False, explicit=True) for kind in WRAPPERS}
CELLS |= {f"shard_map checked {kind}": partial(mapped, kind, checked=True) for kind in WRAPPERS}
CELLS |= {f"members checked={checked} run": partial(members, "run", checked=checked) for checked in (False, True)}

if __name__ == "__main__":
    warnings.simplefilter("ignore", na.ActivityWarning)
    chosen = [name for name in CELLS if any(fnmatch.fnmatch(name, pattern) for pattern in sys.argv[1:])]
    for name in chosen:
        try:
            CELLS[name]()
        except Exception as error:
            error.add_note(f"cell: {name}")
            raise
    print(len(chosen), "cells are right")
