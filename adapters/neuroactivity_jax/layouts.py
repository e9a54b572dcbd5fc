"""Discover a tree's layout: its groups by names and shapes of parameters, what they feed by probing gradients."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import neuroactivity as na
from neuroactivity.discovery import GradientFunction, OutputFunction, SharedNeurons, discover_layout, list_layout
from neuroactivity.discovery.gradients import attributes
from neuroactivity.discovery.merging import split_views
from neuroactivity.discovery.unproved import NO_GRADIENT
from neuroactivity.wrapping import derive_key, note_outside
from neuroactivity_jax.layers import AttentionNeurons, Convention, Rule, Stacked, list_groups
from neuroactivity_jax.manual import check_undivided
from neuroactivity_jax.parameters import PyTree, concrete, is_float, parameters, replace, shapes_of

Apply: TypeAlias = Callable[[PyTree], Any]
"""From parameters to what the model returns for some inputs."""


def layout_of(
    params: PyTree,
    apply: Apply | None = None,
    *,
    readers: Sequence[Apply] = (),
    shared: SharedNeurons = "incoming",
    attention: AttentionNeurons = "channels",
    rule: Rule | None = None,
    convention: Convention | None = None,
    stacked: Stacked = None,
    seed: int = 0,
) -> na.Layout:
    """Discover the neuron groups of a model and what they feed.

    The groups are listed by the names and shapes of the parameters. Their outgoing connections are found by
    :func:`neuroactivity.discover_outgoing`, which probes the model's gradients several hundred times and proves what it
    finds. Print ``layout.describe()`` to check it at a glance.

    Args:
        params: The parameters: a dictionary of Flax or Haiku, a state or module of Flax NNX, a module of Equinox, or
            any pytree with arrays of such names. Shapes and dtypes are enough, as from ``jax.eval_shape`` or inside
            ``jit``: values are drawn for what has none.
        apply: From parameters to what the model returns, deterministically, for a batch of a few different samples:
            ``lambda params: model.apply(params, x)``. All arrays that it returns count as outputs, chosen actions too.
            Without it the groups are listed and not searched, which is enough to measure them (``max_fraction=0``).
        readers: Further functions of the same parameters whose outputs count too: another network that reads the same
            trunk, the model in training mode if it differs.
        shared: Whether a reset of neurons that are read only together with other groups, as in a residual stream, draws
            fresh incoming parameters (``"incoming"``, as the paper's code does) or skips them (``"skip"``).
        attention: Whether a neuron of an attention layer is a channel of a projection or a whole head.
        rule: Asked first about every parameter: from its name and value to its group, or ``None`` for the layers that
            are known.
        convention: The order of axes, ``"flax"``, ``"haiku"`` or ``"equinox"``, if names do not tell it.
        stacked: Which parameters have a leading axis of independent copies, if shapes do not tell it: ``True`` for all,
            ``False`` for none, or paths such as ``["params/critics"]``. For several such axes (members, seeds), their
            number instead of ``True``, or a mapping of paths to numbers, of which the longest path counts.
        seed: Seed of the probes.

    Returns:
        The layout. A parameter is named by its path, joined by ``/``, a group by the path of the layer that holds it.

    Raises:
        LayoutError: If there are no neuron groups, a shape can be read in several ways, the output has no gradient, or
            ``apply`` uses inputs that are traced.
        ValueError: If an option has none of its values, or a path in ``stacked`` leads to no layer.

    Example:
        >>> key = jax.random.key(0)
        >>> params = {
        ...     "hidden": {"w": jax.random.normal(key, (3, 8)), "b": jnp.zeros(8)},
        ...     "out": {"w": jax.random.normal(key, (8, 2)), "b": jnp.zeros(2)},
        ... }
        >>> def apply(params):
        ...     hidden = jax.nn.relu(jnp.ones((4, 3)) @ params["hidden"]["w"] + params["hidden"]["b"])
        ...     return hidden @ params["out"]["w"] + params["out"]["b"]
        >>> layout = layout_of(params, apply)
        >>> layout["hidden"].outgoing, layout["hidden"].status, layout["out"].status
        ((ParamView('out/w', 'neuron out'),), 'exclusive', 'head')
    """
    groups, merged = list_groups(params, attention=attention, rule=rule, convention=convention, stacked=stacked)
    arrays = parameters(params)
    if not groups:
        names = ", ".join(list(arrays)[:8]) or "no floating-point arrays"
        raise na.LayoutError(f"found no layer with neurons among {names}; give rule=, or write the layout by hand")
    if apply is None:
        if readers:
            raise ValueError("readers: expected apply as well, of which they are further outputs")
        return split_views(list_layout(groups), groups, merged)
    params = concrete(params)
    functions = (apply, *readers)
    layout = discover_layout(
        groups,
        gradient_function(params, lambda params: [function(params) for function in functions], seed=seed),
        {name: np.asarray(value) for name, value in parameters(params).items()},
        normal=_standard_normal,
        output_fn=_output_function(params, functions),
        merged=merged,
        shared=shared,
        seed=seed,
    )
    unread = [group for group in layout.values() if group.reason == NO_GRADIENT]
    number = len({view.param for group in unread for view in group.incoming + group.unscored})
    layout = note_outside(layout, number, "what apply returns", holder="the tree also holds")
    check_undivided(layout, layout, shapes_of(arrays))  # which remembers them
    return layout


def gradient_function(params: PyTree, apply: Apply, *, seed: int = 0) -> GradientFunction:
    """Make the gradient function that discovery and :func:`neuroactivity.verify_layout` probe.

    All floating-point outputs are reduced to one number by a fixed random projection.

    Args:
        params: The parameters.
        apply: From parameters to what the model returns.
        seed: Seed of the projection.

    Returns:
        A function from parameters by name to gradients by name, NumPy arrays, compiled once.
    """
    gradients = jax.jit(jax.grad(lambda values: _project_outputs(apply(replace(params, values)), seed)))

    def grad_fn(values: dict[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = _evaluate(gradients, values)
        return found

    return grad_fn


def _output_function(params: PyTree, functions: Sequence[Apply]) -> OutputFunction:
    """Make the function of parameters by name that returns all outputs, chosen actions too, compiled once."""

    @jax.jit
    def outputs(values: dict[str, Any]) -> list[Any]:
        return [leaf for function in functions for leaf in _arrays(function(replace(params, values)), _is_number)]

    def output_fn(values: dict[str, Any]) -> Sequence[Any]:
        found = _evaluate(outputs, values)
        return [one.astype(np.float32) if is_float(one) and one.dtype.itemsize < 4 else one for one in found]

    return output_fn


def _evaluate(function: Callable[[dict[str, Any]], Any], values: Mapping[str, Any]) -> Any:
    """Evaluate a compiled function at once, inside of any transformation, to NumPy arrays."""
    traced = isinstance(jnp.zeros(()), jax.core.Tracer)
    with jax.ensure_compile_time_eval() if traced else nullcontext():  # in which JAX 0.7.1 has no scan
        results = function(dict(values))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(results)):
        raise na.LayoutError(
            "apply uses values that are traced, which cannot be probed; make the inputs outside of jit and vmap, or "
            "with NumPy"
        )
    return jax.tree.map(np.asarray, results)


def _project_outputs(output: Any, seed: int) -> Any:
    """Reduce a model's outputs to one number by fixed random weights."""
    leaves = list(_arrays(output))
    if not leaves:
        expected = "expected a floating-point output"
        raise na.LayoutError(f"the model cannot be probed: {expected}, got {type(output).__name__}")
    total = jnp.zeros(())
    for number, leaf in enumerate(leaves):
        weights = np.random.default_rng(derive_key(seed, number, "projection")).standard_normal(leaf.shape)
        total = total + jnp.sum(leaf * weights.astype(leaf.dtype))
    return total


def _arrays(output: Any, of_kind: Callable[[Any], bool] = is_float, depth: int = 4) -> Iterator[Any]:
    """Yield the arrays of a kind in an output: in containers, and in objects such as distributions."""
    for leaf in jax.tree.leaves(output):
        if of_kind(leaf):
            yield leaf
        elif depth and not isinstance(leaf, jax.Array):
            yield from _arrays(attributes(leaf), of_kind, depth - 1)


def _is_number(leaf: Any) -> bool:
    """Whether something is an array of numbers or truths."""
    whole = isinstance(leaf, jax.Array) and any(jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.integer, jnp.bool_))
    return is_float(leaf) or whole


def _standard_normal(like: Any, key: int) -> Any:
    """Draw standard normal numbers of an array's shape and dtype."""
    return np.random.default_rng(key).standard_normal(like.shape).astype(like.dtype)
