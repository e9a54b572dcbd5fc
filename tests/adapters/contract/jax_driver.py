"""The network and its wrappers in JAX."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import neuroactivity as na
from neuroactivity_jax import activations, layout_of, parameters, redo, regrama, report, summary
from tests.adapters.contract.network import FRESH, LAYERS, Counts, Values, X, forward, layout, reset, weights


def unknown() -> optax.GradientTransformation:
    """Make an optimizer with a state that belongs to no parameter."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda update: -0.25 * update, updates), state

    return optax.GradientTransformation(lambda params: {"odd": jnp.ones(3)}, update)


@jax.jit
def drawn(key: jax.Array) -> Any:
    """Draw fresh parameters: one draw, which compiles sooner than one for each."""
    values = weights({})
    ends = np.cumsum([value.size for value in values.values()]).tolist()
    parts = jnp.split(jax.random.uniform(key, (ends[-1],), minval=0.1), ends[:-1])
    return JaxDriver.native({name: part.reshape(values[name].shape) for name, part in zip(values, parts, strict=True)})


def apply(tree: Any, x: Any) -> jax.Array:
    return forward(parameters(tree), x, jax.nn.relu)


OPTIMIZERS = {"adam": lambda: optax.adam(0.01), "sgd": lambda: optax.sgd(0.0), "unknown": unknown}


class JaxDriver:
    """Trains the network with gradients that it is given; without a method by the plain optimizer."""

    rounding, initializers = 2.0**-22, ("snapshot",)  # a reset is an update, whose sum is rounded
    read_as_factors: frozenset[str] = frozenset()

    def __init__(
        self,
        method: str | None = None,
        *,
        optimizer: Any = "adam",
        prepare: Callable[[Any], Any] = lambda tree: tree,
        initial: Values | None = None,
        trained: Sequence[str] = LAYERS,
        groups: na.Layout | None = None,
        initializer: str | Mapping[str, np.ndarray] = FRESH,
        **options: Any,
    ) -> None:
        self.tree, self.trained, self.method = self.native(weights() if initial is None else initial), trained, method
        self.tree = prepare(self.tree)
        self.probe, self.groups = X, groups or layout()
        self.tx = OPTIMIZERS.get(optimizer, optimizer)()
        if method is not None:
            wrap = {"regrama": regrama, "redo": redo}[method]
            self.tx = wrap(self.tx, self.groups, initializer=self._initializer(initializer), **options)
        self.saved = self.tx.init(self._trained(self.tree))

    def _initializer(self, initializer: str | Mapping[str, np.ndarray]) -> Any:
        if isinstance(initializer, str):
            return drawn if initializer == "drawn" else initializer
        return lambda key: {
            layer: {kind: leaf.astype(self.tree[layer][kind].dtype) for kind, leaf in arrays.items()}
            for layer, arrays in self.native(initializer).items()
        }

    def _trained(self, tree: Any) -> Any:
        """Put ``None`` in the place of what the optimizer does not train."""
        return {
            layer: arrays if layer in self.trained else dict.fromkeys(arrays, None) for layer, arrays in tree.items()
        }

    @staticmethod
    def name(param: str) -> str:
        return param

    @staticmethod
    def native(values: Mapping[str, np.ndarray]) -> Any:
        return {
            layer: {kind: jnp.asarray(values[f"{layer}/{kind}"]) for kind in ("kernel", "bias")} for layer in LAYERS
        }

    @staticmethod
    def group(group: na.NeuronGroup) -> na.NeuronGroup:
        return group

    @classmethod
    def find_layout(cls, **options: Any) -> na.Layout:
        """Find the layout of the network, instead of being given it."""
        return layout_of(cls.native(weights({})), lambda tree: apply(tree, X), **options)

    def activations(self, x: np.ndarray, groups: na.Layout) -> dict[str, np.ndarray]:
        outputs = activations(self.tree, lambda tree: apply(tree, x), layout=groups)
        return {name: np.asarray(value) for name, value in outputs.items()}

    def step(self, grads: Mapping[str, np.ndarray | None]) -> None:
        """Take a step with these gradients, where there are some."""
        extra = {}
        if self.method == "redo":
            extra["activations"] = lambda: activations(
                self.tree, lambda tree: apply(tree, self.probe), layout=self.groups
            )
        params = self._trained(self.tree)
        given = {
            layer: {
                kind: None if grads[f"{layer}/{kind}"] is None else jnp.asarray(grads[f"{layer}/{kind}"], leaf.dtype)
                for kind, leaf in arrays.items()
            }
            for layer, arrays in self.tree.items()
        }
        updates, self.saved = self.tx.update(self._trained(given), self.saved, params, **extra)
        jax.effects_barrier()
        new = optax.apply_updates(params, updates)
        self.tree = {layer: new[layer] if layer in self.trained else arrays for layer, arrays in self.tree.items()}

    def params(self) -> Values:
        return self._read(self.tree)

    def moments(self) -> list[Values]:
        """Return Adam's first and second moments."""
        return [self._read(optax.tree_utils.tree_get(self.saved, name)) for name in ("mu", "nu")]

    @staticmethod
    def _read(tree: Any) -> Values:
        return {name: np.asarray(value) for name, value in parameters(tree).items()}

    @staticmethod
    def expected(values: Values, dead: Mapping[str, list[int]]) -> Values:
        """What a reset of these neurons makes of the values that a step has left."""
        return reset(values, dead, FRESH)

    def counts(self) -> Counts:
        steps = self.saved.steps
        return Counts(int(steps), *(int(getattr(self.saved, name)) for name in Counts._fields[1:]))

    def report(self) -> na.ActivityReport | None:
        return report(self.saved, self.groups)

    def scalars(self, prefix: str) -> dict[str, float]:
        return {name: float(value) for name, value in summary(self.saved, prefix).items()}

    def state(self) -> Any:
        """Copy all that a resumed run is given."""
        return pickle.dumps(jax.device_get((self.tree, self.saved)))

    def resume(self, state: Any) -> None:
        self.tree, self.saved = pickle.loads(state)

    def wrap_again(self) -> None:
        """Wrap the wrapper in another one that resets the same."""
        regrama(self.tx, self.groups)

    @staticmethod
    def noise() -> list[float]:
        """Draw from the framework's global generator: JAX has none."""
        return []
