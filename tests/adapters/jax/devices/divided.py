"""What cannot be right inside ``shard_map``, and is refused; a program that test_devices.py runs."""

import jax
import numpy as np
import optax
from jax import lax
from jax.sharding import PartitionSpec as P

import neuroactivity as na
from neuroactivity_jax import layout_of, regrama
from tests.adapters.jax.devices.cells import (
    BATCHES,
    COLUMNS,
    EVERYWHERE,
    LAYOUT,
    ROWS,
    WRAPPERS,
    initial,
    loss,
    make_params,
    outputs,
)
from tests.adapters.jax.releases import varying

X, Y = BATCHES[0]
SPECS = {"a": COLUMNS, "c": ROWS, "o": EVERYWHERE}


def refusal(step, *arguments, specs, checked):
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    step = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=checked)
    try:
        jax.eval_shape(step, *arguments)
    except (na.LayoutError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def divided(layout, *, outside, checked):
    """Train with neurons that are divided among devices, with a state that is made there or outside."""
    tx = regrama(optax.sgd(0.1), layout, clock="run", initializer=initial)
    if outside:
        tx.init(make_params())

    def part_of_loss(params):
        hidden = jax.nn.relu(X @ params["a"]["w"] + params["a"]["b"])
        hidden = jax.nn.relu(lax.psum(hidden @ params["c"]["w"], "model") + params["c"]["b"])
        return ((hidden @ params["o"]["w"] - Y) ** 2).mean()

    def step(params):
        updates, _ = tx.update(jax.grad(part_of_loss)(params), tx.init(params), params)
        return optax.apply_updates(params, updates)

    return refusal(step, make_params(), specs=(SPECS,), checked=checked)


def not_reduced(kind):
    """Give each device the signal of its own part of the batch."""
    tx, params = WRAPPERS[kind](), make_params()

    def step(params, x, y):
        own = jax.tree.map(lambda a: varying(a, "model"), params)
        grads = jax.grad(loss)(own, x, y)
        grads, extra = (lax.pmean(grads, "model"), {"activations": outputs(own, x)}) if kind == "redo" else (grads, {})
        updates, _ = tx.update(grads, tx.init(params), params, **extra)
        return optax.apply_updates(params, updates)

    return refusal(step, params, X, Y, specs=(P(), P("model"), P("model")), checked=True)


if __name__ == "__main__":
    found = layout_of(make_params(), lambda params: outputs(params, np.array(X))["o"])
    for checked in (False, True):
        for layout, outside in ((found, False), (found, True), (na.Layout(list(LAYOUT.values())), True)):
            expected = (
                "LayoutError: group 'a', parameter 'a/w': expected its axes (8, 16) inside shard_map too, got (8, 2), "
                "a part of them, of which no mean over the group can be taken; call update outside of shard_map, under "
                "jit with sharded arrays, or gather the parameters first"
            )
            assert (came := divided(layout, outside=outside, checked=checked)) == expected, came
    for kind, what, averaged in (
        ("regrama", "gradients", "gradients"),
        ("redo", "activations", "their absolute values"),
    ):
        expected = (
            f"ValueError: group 'a': its {what} differ between the devices of mesh axis 'model', and parameter 'a/w' "
            f"does not; average {averaged} over them (lax.pmean) before update"
        )
        assert (came := not_reduced(kind)) == expected, came
    print("8 refusals")
