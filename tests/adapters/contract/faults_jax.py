"""Faults in JAX."""

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import layout_of, regrama, report
from neuroactivity_jax.state import ActivityState
from tests.adapters.contract.faults_judged import compare, judge, loaded
from tests.adapters.contract.faults_shared import HEALTHY, INFINITE, Scenario, failing_probe, made, shared, steps, then
from tests.adapters.contract.jax_driver import JaxDriver
from tests.adapters.contract.network import FRESH, LAYERS, Values, gradients, layout, weights
from tests.adapters.jax.releases import enable_x64

MOMENTUM = partial(optax.sgd, 0.01, momentum=0.9)
make = partial(made, JaxDriver)


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def jitted(tx: Any) -> optax.GradientTransformation:
    return optax.GradientTransformation(tx.init, jax.jit(tx.update))


class Jitted(JaxDriver):
    """The network with a compiled update."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tx = jitted(self.tx)


def in_dtype(dtype: Any, rounding: float) -> str:
    return judge(made(Jitted, prepare=lambda tree: cast(tree, dtype)), steps(gradients()), rounding=rounding)


def in_float64() -> str:
    with enable_x64(True):
        return in_dtype(jnp.float64, 2**-51)


def by(optimizer: Callable[[], Any], *grads: Values, **options: Any) -> str:
    """Take steps by this optimizer."""
    return judge(make(optimizer=optimizer, **options), steps(*grads))


class Around:
    """The network, trained by a transformation around the wrapper, or around the plain optimizer."""

    def __init__(self, method: str | None, *, around: Callable[[Any], Any], **options: Any) -> None:
        self._side = make(**options)(method)
        self._side.tx = jitted(around(self._side.tx))
        self._side.saved = self._side.tx.init(self._side.tree)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._side, name)

    def report(self) -> Any:
        return report(self._side.saved, self._side.groups)

    def counts(self) -> Any:
        (state,) = [s for s in jax.tree.leaves(self.saved, is_leaf=_is_state) if _is_state(s)]
        outer, self._side.saved = self._side.saved, state
        counts = self._side.counts()
        self._side.saved = outer
        return counts


def _is_state(node: Any) -> bool:
    return isinstance(node, ActivityState)


def at_once(change: Callable[[Any], None], grads: Values = HEALTHY, **options: Any) -> str:
    """The first step after a change tells, though no measurement is due for long."""
    side = make(every=1000, **options)("regrama")
    side.step(HEALTHY)
    change(side)
    before = side.params()
    with pytest.raises(ValueError, match=r"updates|state|initializer|group"):
        side.step(grads)
    compare(side.params(), before)
    return "refused at the step"


def cast_later(side: Any) -> None:
    side.tree = cast(side.tree, jnp.bfloat16)


def cast_at_once() -> str:
    """Neither a snapshot nor a function that goes on drawing what it drew fits any more."""
    tx = regrama(optax.sgd(0.1), layout(), initializer=lambda key: JaxDriver.native(FRESH), every=1000)
    params = JaxDriver.native(weights())
    state, params = tx.init(params), cast(params, jnp.bfloat16)
    with pytest.raises(ValueError, match=r"initializer, parameter 'first/kernel': expected .* dtype bfloat16"):
        tx.update(params, state, params)
    return at_once(cast_later, initializer="snapshot")


def skipped_inside() -> str:
    """A step that is due, or one before it; what the inner transformation skips is measured and reset all the same."""
    grads = HEALTHY, INFINITE, gradients()
    (outcome,) = {by(lambda: optax.apply_if_finite(MOMENTUM(), 5), *grads[:due], every=due) for due in (2, 3)}
    return outcome


def freeze(side: Any) -> None:
    side.trained = ["first", "gate", "out"]


def resize(side: Any) -> None:
    side.tree = jax.tree.map(lambda leaf: jnp.ones([size + (size == 7) for size in leaf.shape]), side.tree)


def no_gradient_of_a_reader() -> str:
    return at_once(lambda side: None, gradients() | {"value/kernel": None})


def refused(action: Callable[[], Any]) -> str:
    try:
        action()
    except ValueError:
        return "refused"
    return "accepted"


def init(change: Callable[[Any], Any]) -> str:
    """Give ``init`` other parameters."""
    tree = change(JaxDriver.native(weights()))
    return refused(lambda: regrama(optax.sgd(0.1), layout()).init(tree))


def quantise(tree: Any) -> Any:
    return tree | {"value": tree["value"] | {"kernel": tree["value"]["kernel"].astype(jnp.int8)}}


def without_values() -> str:
    """Only compiled code may start from shapes."""
    shapes = jax.eval_shape(lambda: JaxDriver.native(weights()))
    state = jax.eval_shape(regrama(optax.sgd(0.1), layout()).init, shapes)
    assert state.snapshot["first/kernel"].shape == (5, 7)
    return init(lambda tree: shapes)


def unused() -> str:
    """A parameter whose gradient is zero at all times."""
    prepare = partial(dict.__or__, {"spare": {"kernel": jnp.ones((3, 3))}})
    return judge(
        make(prepare=prepare, trained=[*LAYERS, "spare"]),
        steps(gradients() | {"spare/kernel": np.zeros((3, 3), "float32")}),
    )


def small(width: int) -> Any:
    return {"a": {"kernel": jnp.ones((5, width))}, "b": {"kernel": jnp.ones((width, 2))}}


def of_one_neuron() -> str:
    """Its score is 1, or zero with that of its whole layer."""
    views = {"weight": ("a/kernel", "in neuron"), "outgoing": [("b/kernel", "neuron out")]}
    found, params = na.Layout([na.dense("a", **views)]), small(1)
    tx = regrama(optax.sgd(0.0), found, every=1)
    state = tx.init(params)
    for size in (1.0, 0.0):
        updates, state = tx.update(jax.tree.map(lambda leaf, size=size: size * leaf, params), state, params)
        assert all((update == 0).all() for update in jax.tree.leaves(updates))
    with pytest.warns(na.ActivityWarning, match="a .silent"):
        assert report(state, found)["a"].silent == 1
    return "left alone"


def older_state() -> str:
    fields = make()("regrama").saved._asdict()
    del fields["since"]
    try:
        pickle.loads(pickle.dumps(ActivityState(**fields)))
    except ValueError:
        return "refused at loading"
    return "accepted"


def damaged_state() -> str:
    side = make()("regrama")
    tree, saved = pickle.loads(side.state())
    return loaded(pickle.dumps((tree, saved._replace(steps=np.int32(-5)))), side)


def load_weights(side: Any) -> None:
    side.tree = jax.tree.map(np.asarray, side.tree)


def load_optimizer(side: Any) -> None:
    side.saved = jax.tree.map(np.asarray, side.saved)


SCENARIOS: Mapping[str, Scenario] = {
    **shared(JaxDriver),
    "no gradient of a reader": no_gradient_of_a_reader,
    "float16": lambda: in_dtype(jnp.float16, 2**-10),
    "bfloat16": lambda: in_dtype(jnp.bfloat16, 2**-7),
    "float64": in_float64,
    "one neuron": of_one_neuron,
    "no neurons": lambda: refused(
        lambda: layout_of(small(0), lambda p: jnp.ones((8, 5)) @ p["a"]["kernel"] @ p["b"]["kernel"])
    ),
    "unused parameter": unused,
    "without values": without_values,
    "quantised": lambda: init(quantise),
    "complex": lambda: init(lambda tree: cast(tree, jnp.complex64)),
    "frozen later": lambda: at_once(freeze),
    "resized": lambda: at_once(resize, {name: np.ones([n + (n == 7) for n in v.shape]) for name, v in HEALTHY.items()}),
    "cast": cast_at_once,
    "weights loaded": lambda: judge(make(), then(load_weights)),
    "optimizer state loaded": lambda: judge(make(optimizer=MOMENTUM), then(load_optimizer)),
    "factored moments": lambda: by(lambda: optax.adafactor(0.1, min_dim_size_to_factor=2), gradients()),
    "loss scale": lambda: by(
        lambda: optax.chain(optax.scale(1 / 1024), optax.sgd(0.1)), *[{n: 1024 * v for n, v in gradients().items()}]
    ),
    "skipped outside": lambda: judge(
        partial(Around, around=lambda tx: optax.apply_if_finite(tx, 5), every=2), steps(HEALTHY, INFINITE, gradients())
    ),
    "skipped inside": skipped_inside,
    "accumulation outside": lambda: judge(
        partial(Around, around=lambda tx: optax.MultiSteps(tx, 2), every=1), steps(gradients(seed=1), gradients())
    ),
    "accumulation inside": lambda: by(lambda: optax.MultiSteps(MOMENTUM(), 2), HEALTHY, gradients(), every=2),
    "state of another version": older_state,
    "damaged state": damaged_state,
    "probe fails": partial(failing_probe, JaxDriver, TypeError),
}
