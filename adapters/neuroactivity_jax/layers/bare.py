"""Arrays that are in no group, and groups without neurons."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from neuroactivity import ActivityWarning
from neuroactivity.discovery.names import check_not_empty, looks_like_a_layer, say_unlisted
from neuroactivity_jax.layers.layer_arrays import LayerArrays, Listed


def check_empty(listed: Sequence[Listed], params: Mapping[str, Any]) -> None:
    """Raise if a group has no neurons.

    Raises:
        LayoutError: With its array and shape.
    """
    check_not_empty([entry.group for entry in listed], {name: tuple(value.shape) for name, value in params.items()})


def warn_of_bare(layers: Sequence[LayerArrays], listed: Sequence[Listed]) -> None:
    """Warn of layers with weights that are in no group; of collections of variables, those called ``params`` count."""
    collections = any(entry.group.name.startswith("params/") for entry in listed)
    named = [_name_weights(layer) for layer in layers if not collections or layer.name.startswith("params/")]
    if listed and any(named):
        warnings.warn(say_unlisted([name for name in named if name]), ActivityWarning, stacklevel=4)


def _name_weights(layer: LayerArrays) -> str:
    weights = [f"{leaf} {shape}" for leaf, shape in layer.shapes.items() if looks_like_a_layer(leaf, shape)]
    return f"{layer.name or 'the tree'} ({', '.join(weights)})" if weights else ""
