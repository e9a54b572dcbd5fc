"""Settings of JAX that a user may have turned on, under which the wrappers do what they do without."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import layout_of, redo, regrama, report
from tests.adapters.jax.optimizers import LAYOUT, PARAMS, at, compiled, initial, stacked

MOMENTUM, ADAM = optax.sgd(0.1, momentum=0.9), optax.adam(0.1)  # optax's own Adam does not run under "strict"
OUTPUTS = {"a": jnp.ones((4, 7)), "out": jnp.ones((4, 2))}
SETTINGS = {
    "ranks": lambda: jax.numpy_rank_promotion("raise"),
    "dtypes": lambda: jax.numpy_dtype_promotion("strict"),
    "nans": lambda: jax.debug_nans(True),
    "leaks": jax.checking_leaks,
    "no jit": jax.disable_jit,
}
FEW = ("ranks", "nans")
EVERY_SETTING = [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in SETTINGS]
OPTIONS = [
    {},
    {"batches": 2, "protect": 2, "outgoing": "small", "initializer": initial},
    {"outgoing": "fresh", "start": 2, "stop": 9},
    {"lowest": 0.25, "max_fraction": 0.5, "reset_silent": True},
    {"max_fraction": 0.0},
    {"clock": "run", "on_report": lambda report: None},
    {"score": lambda grads, layout, params: na.grama(params, layout), "batches": 2},
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "options", [pytest.param(each, marks=[pytest.mark.slow] * (place > 1)) for place, each in enumerate(OPTIONS)]
)
@pytest.mark.parametrize(("setting", "inner"), [("ranks", ADAM), ("dtypes", MOMENTUM)], ids=["ranks", "dtypes"])
def test_no_operation_relies_on_promotion(setting, inner, options):
    """Both wrappers, alone and for several runs, are traced under it."""
    with SETTINGS[setting]():
        for wrap in (regrama, redo) if "score" not in options else (regrama,):
            tx = wrap(inner, LAYOUT, every=2, tau=0.05, **options)
            state, extra = tx.init(PARAMS), {} if wrap is regrama else {"activations": OUTPUTS}
            step = compiled(tx, **extra)
            step.lower(at(0), state, PARAMS)
            jax.jit(jax.vmap(step, (None, 0, None))).lower(at(0), stacked(state, state), PARAMS)


@pytest.mark.parametrize("setting", EVERY_SETTING)
@pytest.mark.parametrize("eager", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_is_the_same(setting, eager):
    def run():
        """Train for four steps, with two measurements and resets."""
        tx = regrama(MOMENTUM, LAYOUT, every=2, tau=0.05, initializer=initial)
        params, state, step = PARAMS, tx.init(PARAMS), compiled(tx)
        for number in range(4):
            if eager:
                updates, state = tx.update(at(number), state, params)
                params = optax.apply_updates(params, updates)
            else:
                params, state = step(at(number), state, params)
        return params, report(state, LAYOUT).total

    expected = run()
    with SETTINGS[setting]():
        found = run()
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), found[0], expected[0])
    assert found[1] == expected[1]
    assert found[1].reset == 2


@pytest.mark.parametrize("setting", EVERY_SETTING)
def test_a_layout_is_found(setting):
    params = {"a": {"kernel": jnp.ones((3, 7)), "bias": jnp.ones(7)}, "out": {"kernel": jnp.ones((7, 2))}}

    def apply(params):
        hidden = jnp.ones((4, 3)) @ params["a"]["kernel"] + params["a"]["bias"][None]
        return jax.nn.relu(hidden) @ params["out"]["kernel"]

    with SETTINGS[setting]():
        layout = layout_of(params, apply)
    assert [(group.name, group.resettable) for group in layout.values()] == [("a", True), ("out", False)]


def test_a_compiled_step_transfers_nothing_by_itself():
    tx = regrama(ADAM, LAYOUT, every=1, tau=0.05, initializer=initial)
    params = jax.tree.map(jnp.asarray, PARAMS)
    step, grads, state = compiled(tx), jax.tree.map(jnp.asarray, at(0)), tx.init(params)
    with jax.transfer_guard("disallow"):
        _, state = step(grads, state, params)
    assert int(state.resets) == 1
