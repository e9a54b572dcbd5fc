"""Train states: anything that has ``params``, ``tx``, ``opt_state`` and ``replace``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

import neuroactivity as na
from neuroactivity.wrapping import Method, check_host_options
from neuroactivity_jax.activations import activations as read_activations
from neuroactivity_jax.layouts import Apply, layout_of
from neuroactivity_jax.parameters import PyTree
from neuroactivity_jax.reports import find_state
from neuroactivity_jax.state import ActivityState, states_in
from neuroactivity_jax.wrappers import redo, regrama

State = TypeVar("State", bound=Any)


class Attached(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """The optimizer of a state that is measured.

    Attributes:
        inner: The optimizer that the state had.
        layout: The neuron groups.
    """

    inner: optax.GradientTransformation
    layout: na.Layout

    def __new__(cls, tx: optax.GradientTransformation, inner: Any, layout: na.Layout) -> "Attached":
        """Remember more of an optimizer than its two functions."""
        self: Attached = super().__new__(cls, tx.init, tx.update)
        self.inner, self.layout = inner, layout
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return optax.GradientTransformationExtraArgs(self.init, self.update), self.inner, self.layout


def attach_state(
    state: State,
    apply: Apply | None = None,
    every: SupportsIndex = 1000,
    seed: Any = 0,
    runs: int | None = None,
    *,
    method: Method = "regrama",
    layout: na.Layout | None = None,
    readers: Sequence[Apply] = (),
    activations: Callable[[PyTree], Mapping[str, Array | None]] | None = None,
    **options: Any,
) -> State:
    """Measure, and reset, the neurons of a train state; the training loop stays as it is.

    The state's optimizer is wrapped by :func:`regrama` or :func:`redo`. The optimizer's own state goes on: its moments
    and its step count are those of ``state``, so attaching is possible in the middle of a run. Where a host starts its
    optimizer anew by ``state.tx.init(params)``, the wrapper starts anew with it. Where it makes a new state with an
    optimizer of its own, the wrapper is gone, and :func:`report` says that it finds none: attach again.

    Args:
        state: A ``TrainState`` of Flax, or whatever has ``params``, ``tx``, ``opt_state`` and ``replace``.
        apply: From parameters to what the model returns for a few samples, as :func:`layout_of` takes it. Not needed
            with a layout, or to measure only.
        every: Updates between two measurements.
        seed: Seed of all draws, a whole number or a key; with ``runs`` one for all, or a key for each.
        runs: How many runs there are in the state, where ``vmap`` made several: the first axis of every array.
            ``apply`` takes the parameters of one.
        method: ``"regrama"`` and ``"redo"`` reset, ``"measure"`` does not.
        layout: The neuron groups, if they are not to be found.
        readers: Further functions that read the same parameters, as for :func:`layout_of`.
        activations: For ``"redo"``, from parameters to neuron outputs by group name. Called in compiled code when a
            measurement is due; by default they are those of ``apply`` on its samples.
        options: All other options of :func:`regrama`, with the same defaults. Fresh values are drawn from ``params`` as
            they are; give ``initializer=`` for a model that is trained already.

    Returns:
        The state, with another ``tx`` and ``opt_state``. ``state.tx.layout`` is the layout, for :func:`report`.

    Raises:
        LayoutError: If the layout cannot be found, or does not fit the parameters.
        ValueError: If something is attached already, an option is out of range, or the optimizer's state is not one
            that ``tx`` has made.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax.training.train_state import TrainState
        >>> params = {"fc": {"kernel": jnp.ones((3, 8)), "bias": jnp.zeros(8)}}
        >>> state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(3e-4))
        >>> state = attach_state(state, every=100, method="measure")
        >>> state = state.apply_gradients(grads=params)
        >>> int(state.opt_state.steps), int(state.opt_state.inner_state[0].count)
        (1, 1)
    """
    given: Any = {**options, "every": every}
    checked = check_host_options(method, given)
    if states_in(state.opt_state):
        raise ValueError("state: something is attached to it already; call detach_state first")
    one = state.params if runs is None else jax.tree.map(lambda leaf: leaf[0], _of_runs(state.params, runs))
    if layout is None:
        searched = checked.writes or method == "redo"
        layout = layout_of(one, apply, readers=readers) if searched else layout_of(one)
    if method == "redo" and activations is None:
        activations = _activations_of(apply, layout)
    keys = seed if runs is None else _keys(seed, runs)
    given["max_fraction"] = checked.max_fraction
    tx = _wrap(state.tx, layout, method, activations, **given, seed=keys if runs is None else keys[0])
    if runs is None:
        opt_state = tx.init(state.params)
    else:

        def init(params: PyTree, key: Array) -> ActivityState:
            state_of_run: ActivityState = _wrap(state.tx, layout, method, None, **given, seed=key).init(params)
            return state_of_run

        opt_state = jax.vmap(init)(state.params, keys)
    expected, got = (jax.tree.structure(tree) for tree in (opt_state.inner_state, state.opt_state))
    if expected != got:  # type: ignore[operator]
        raise ValueError(f"opt_state: expected the state of the state's own tx, {expected}, got {got}")
    opt_state = opt_state._replace(inner_state=state.opt_state)
    attached: State = state.replace(tx=Attached(tx, state.tx, layout), opt_state=opt_state)
    return attached


def detach_state(state: State) -> State:
    """Undo :func:`attach_state`: give a state the optimizer that it had, with its moments as they are now.

    Args:
        state: A state that something is attached to.

    Raises:
        ValueError: If nothing is.
    """
    if not isinstance(state.tx, Attached):
        raise ValueError("state: nothing is attached to it; a host that makes its optimizer anew drops the wrapper")
    detached: State = state.replace(tx=state.tx.inner, opt_state=find_state(state.opt_state).inner_state)
    return detached


def _wrap(
    inner: Any,
    layout: na.Layout,
    method: Method,
    activations: Callable[[PyTree], Mapping[str, Array | None]] | None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer by what a method says."""
    if method != "redo":
        return regrama(inner, layout, **options)
    tx = redo(inner, layout, **options)

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> tuple[PyTree, PyTree]:
        signal = {} if activations is None else {"activations": lambda: activations(params)}
        new: tuple[PyTree, PyTree] = tx.update(updates, state, params, **signal | extra)
        return new

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _activations_of(apply: Apply | None, layout: na.Layout) -> Callable[[PyTree], Mapping[str, Array | None]]:
    if apply is None:
        raise ValueError("method: 'redo' judges activations; give apply= or activations=")
    return lambda params: read_activations(params, apply, layout=layout)


def _of_runs(params: PyTree, runs: int) -> PyTree:
    """Return parameters, if their first axis counts so many runs."""
    shapes = {leaf.shape for leaf in jax.tree.leaves(params)}
    if wrong := [shape for shape in sorted(shapes) if shape[:1] != (runs,)]:
        raise ValueError(f"runs: expected arrays whose first axis counts {runs} runs, got one of shape {wrong[0]}")
    return params


def _keys(seed: Any, runs: int) -> Array:
    """Return a key for each run."""
    key = jax.random.key(seed) if jnp.issubdtype(jnp.result_type(seed), jnp.signedinteger) else seed
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    shape = key.shape if typed else key.shape[:-1]
    return key if shape == (runs,) else jax.random.split(key, runs)
