"""Fresh parameter values: from a user's function, or from a snapshot of the start. Every draw has its own key."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from neuroactivity.layout import BoundPattern, ParamView
from neuroactivity.wrapping import DrawnViews, check_fresh, check_initializer, derive_key, resample
from neuroactivity_jax.drawing import draw_needed
from neuroactivity_jax.parameters import PyTree, parameters

Initializer: TypeAlias = Literal["snapshot"] | Callable[[Array], PyTree]
"""``"snapshot"``, or a function from a key to freshly initialised parameters."""


@dataclass(frozen=True)
class FreshValues:
    """Draws fresh values for the parameters of neurons that are reset.

    Args:
        initializer: Where they come from.
        seed: A whole number, traced or not, a key, or the numbers of a key.

    Raises:
        ValueError: If the initializer or the seed is none of these.
    """

    initializer: Initializer
    seed: Any

    def __post_init__(self) -> None:
        check_initializer(self.initializer, "snapshot")
        self.key_data()

    def key_data(self) -> Array:
        """Return the numbers of the seed's key, as a new array, which may be donated."""
        seed, dtype = self.seed, getattr(self.seed, "dtype", None)
        if self._is_typed_key() and seed.ndim == 0:
            return jnp.array(jax.random.key_data(seed), copy=True)
        if dtype == jnp.uint32 and seed.ndim == 1:
            return jnp.array(seed, copy=True)
        if isinstance(seed, int) or (dtype is not None and jnp.issubdtype(dtype, jnp.integer) and seed.ndim == 0):
            return jax.random.key_data(jax.random.key(seed))
        raise ValueError(f"seed: expected a whole number or one key of jax.random, got {seed!r}")

    def snapshot(self, params: Mapping[str, Array], views: DrawnViews) -> dict[str, Array]:
        """Return the values that rows are drawn from, none for a function, of which a draw is checked instead.

        Raises:
            ValueError: If a value is missing or does not fit its parameter.
        """
        kept = {} if callable(self.initializer) else {name: jnp.array(params[name]) for name in views}
        self.check(kept, params, views, draws=True)
        return kept

    def check(
        self, snapshot: Mapping[str, Array], params: Mapping[str, Array], views: DrawnViews, *, draws: bool = False
    ) -> None:
        """Raise unless there is a value of the right shape for all that a reset draws; ``draws`` looks at values too.

        Raises:
            ValueError: If one is missing or does not fit its parameter.
        """
        initializer = self.initializer
        if callable(initializer):
            key = self._key(self.key_data(), 0)
            known = draws and not isinstance(key, jax.core.Tracer)
            fresh = parameters(initializer(key)) if known else jax.eval_shape(lambda: parameters(initializer(key)))
            check_fresh(fresh, params, views, known=known)
        elif unknown := [name for name in views if name not in snapshot]:
            raise ValueError(
                f"initializer: the state holds no snapshot of {unknown[0]!r}; give update the initializer and "
                "max_fraction that init was given"
            )

    def draw(
        self,
        key_data: Array,
        event: Array,
        snapshot: Mapping[str, Array],
        views: DrawnViews,
        needed: Mapping[str, Array],
    ) -> dict[str, Array]:
        """Draw fresh values.

        Args:
            key_data: Numbers of the key that all draws derive from, as the optimizer's state holds them.
            event: Number of the reset, counted from 1.
            snapshot: What :meth:`snapshot` returned.
            views: The parameters to draw, and the views of the neurons in each.
            needed: For each whether any entry of it is needed; what a compiled function need not draw is zero.
        """
        key = self._key(key_data, event)
        if callable(self.initializer):
            if isinstance(key, jax.core.Tracer) and _decomposes(self.initializer, key):
                key = jax.random.wrap_key_data(_one_run(jax.random.key_data(key)), impl=jax.random.key_impl(key))
            if isinstance(key, jax.core.Tracer):
                return draw_needed(self.initializer, key, {name: needed[name] for name in views})
            fresh = parameters(self.initializer(key))
            check_fresh(fresh, fresh, views)  # their form is known to be right
            return {name: fresh[name] for name in views}
        keys = {name: jax.random.fold_in(key, derive_key(0, 0, name) >> 32) for name in views}
        return {name: _resample(snapshot[name], views[name], keys[name]) for name in views}

    def _is_typed_key(self) -> bool:
        return hasattr(self.seed, "dtype") and bool(jnp.issubdtype(self.seed.dtype, jax.dtypes.prng_key))

    def _key(self, data: Array, event: Array | int) -> Array:
        """Return the key of one reset, of the same kind as the seed."""
        impl = jax.random.key_impl(self.seed) if self._is_typed_key() else None
        return jax.random.fold_in(jax.random.wrap_key_data(data, impl=impl), event)


@jax.custom_batching.custom_vmap
def _one_run(key_data: Array) -> Array:
    """Do nothing, but warn if several runs are mapped over."""
    return key_data


@_one_run.def_vmap
def _several_runs(size: int, batched: list[bool], key_data: Array) -> tuple[Array, bool]:
    if jax.default_backend() == "cpu":
        warnings.warn(
            "initializer: it draws orthogonal weights, and XLA on a CPU may stand still for ever where it decomposes "
            "matrices inside of jit under vmap; use initializer='snapshot', or another initialiser for resets",
            na.ActivityWarning,
            stacklevel=2,
        )
    return key_data, batched[0]


def _decomposes(initializer: Callable[[Array], PyTree], key: Array) -> bool:
    """Whether an initialiser decomposes matrices, as orthogonal ones do."""
    program = jax.make_jaxpr(lambda key: parameters(initializer(key)))(key)
    return any(name in str(program) for name in (" qr[", " householder_product", " geqrf"))


def _resample(values: Array, views: Sequence[tuple[ParamView, BoundPattern]], key: Array) -> Array:
    """Give each neuron the snapshot's entries of a neuron drawn at random."""

    def donors(neurons: int, number: int) -> Array:
        return jax.random.randint(jax.random.fold_in(key, number), (neurons,), 0, neurons)

    exchanged: Array = resample(jnp.asarray(values), views, donors)  # a restored checkpoint has NumPy's arrays
    return exchanged
