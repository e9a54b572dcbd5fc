"""What may go wrong in JAX."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import neuroactivity as na
from neuroactivity_jax import regrama
from tests.adapters.contract.faults import Judged, judge
from tests.adapters.contract.faults_shared import Scenario, made, steps
from tests.adapters.contract.jax_driver import JaxDriver
from tests.adapters.contract.network import DEAD, FRESH, LAYERS, Values, gradients, layout

HEALTHY = gradients({}, 3)
trained = partial(made, JaxDriver)
INF_IN_ONE = gradients() | {"out/bias": np.full(2, np.inf, "float32")}


def cast(dtype: Any) -> Callable[[Any], Any]:
    return lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def then(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """Take a step, change something, and take the step that finds dead neurons."""

    def act(side: Any) -> None:
        side.step(HEALTHY)
        change(side)
        side.step(gradients(DEAD))

    return act


def cast_later(side: Any) -> None:
    side.tree = cast(jnp.bfloat16)(side.tree)


def outside(wrap: Callable[[Any], Any]) -> Callable[[str | None], Any]:
    def make(method):
        side = trained(every=1)(method)
        side.tx = wrap(side.tx)
        side.saved = side.tx.init(side.tree)
        return side
    return make


SCENARIOS: dict[str, Scenario] = {
    "float16": lambda: judge(trained(prepare=cast(jnp.float16)), steps(gradients()), rounding=2**-10),
    "bfloat16": lambda: judge(trained(prepare=cast(jnp.bfloat16)), steps(gradients()), rounding=2**-7),
    "cast later": lambda: judge(trained(), then(cast_later), rounding=2**-7),
    "cast later, adam": lambda: judge(trained(optimizer="adam"), then(cast_later), rounding=2**-7),
    "cast later, snapshot": lambda: judge(trained(initializer="snapshot"), then(cast_later), rounding=9),
    "frozen group": lambda: judge(trained(trained=["value", "gate", "out"]), steps(gradients())),
    "frozen reader": lambda: judge(trained(trained=["first", "gate", "out"]), steps(gradients())),
    "frozen later": lambda: judge(trained(), then(lambda side: setattr(side, "trained", ["first", "gate", "out"]))),
    "apply_if_finite inside": lambda: judge(trained(optimizer=lambda: optax.apply_if_finite(optax.adam(0.01), 5), every=3), steps(HEALTHY, INF_IN_ONE, gradients())),
    "apply_if_finite inside due": lambda: judge(trained(optimizer=lambda: optax.apply_if_finite(optax.adam(0.01), 5), every=2), steps(HEALTHY, INF_IN_ONE)),
    "MultiSteps inside": lambda: judge(trained(optimizer=lambda: optax.MultiSteps(optax.adam(0.01), 2), every=4), steps(HEALTHY, HEALTHY, HEALTHY, gradients())),
    "MultiSteps inside, middle": lambda: judge(trained(optimizer=lambda: optax.MultiSteps(optax.adam(0.01), 2), every=3), steps(HEALTHY, HEALTHY, gradients())),
}
