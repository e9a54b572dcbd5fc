"""What the names of layers and parameters tell, whatever library they are from.

Names alone prove nothing: what they suggest is listed, and discovery proves or refuses it.
"""

import re
from collections.abc import Collection, Iterable, Mapping

from neuroactivity.errors import LayoutError
from neuroactivity.layout import NeuronGroup

SCALES = ("scale", "weight", "gamma")
"""What the scale of a normalisation is called."""

SHIFTS = ("bias", "shift", "beta", "offset")
"""What the shift of a normalisation is called."""

_NORM = re.compile(r"norm(ali[sz]ation)?(_?layer)?(_?\d+d)?(_\d+)?$", re.IGNORECASE)
_WEIGHTS, _BIASES = ("weight", "kernel", "w"), ("bias", "b")
_NO_LAYER = re.compile(r"pos|emb|token|cls|query|queries|latent|mask|prompt|log_std|logstd", re.IGNORECASE)


def is_norm(name: str) -> bool:
    """Whether the name of a layer or of its class is that of a normalisation.

    Example:
        >>> [is_norm(name) for name in ("LlamaRMSNorm", "BatchRenorm1d", "LayerNorm_0", "Normal", "Linear")]
        [True, True, True, False, False]
    """
    return _NORM.search(name) is not None


def noisy_parts(names: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the means and deviations of a layer with learned noise: of its weight, and of its bias.

    Both lists are empty if these are not the names of such a layer's parameters.

    Example:
        >>> noisy_parts(["weight_mu", "weight_sigma", "bias_mu", "bias_sigma"])
        (['weight_mu', 'weight_sigma'], ['bias_mu', 'bias_sigma'])
        >>> noisy_parts(["sigma_kernel", "mu_kernel"])
        (['mu_kernel', 'sigma_kernel'], [])
        >>> noisy_parts(["weight", "bias"])
        ([], [])
    """
    weights, biases = _parts(names, _WEIGHTS), _parts(names, _BIASES)
    return (weights, biases) if weights else ([], [])


def _parts(names: Collection[str], of: Collection[str]) -> list[str]:
    ways = [(form.format(name, "mu"), form.format(name, "sigma")) for name in of for form in ("{0}_{1}", "{1}_{0}")]
    return next((list(parts) for parts in ways if {*parts} <= {*names}), [])


def looks_like_a_layer(name: str, shape: Collection[int]) -> bool:
    """Whether an array of no known layer may be the weight of one: it has inputs and outputs, as far as can be told.

    Scales, shifts and class tokens have one entry a feature; positions, embeddings and learned queries are read by
    nothing that is listed either, and are known by a first axis of one, for all samples, or by their names.

    Example:
        >>> [looks_like_a_layer("w1", shape) for shape in ((8, 4), (4, 8, 16), (8,), (1, 8), (1, 16, 8))]
        [True, True, False, False, False]
        >>> looks_like_a_layer("pos_emb", (16, 8))
        False
    """
    sizes = tuple(shape)
    return len([size for size in sizes if size != 1]) > 1 and sizes[0] != 1 and not _NO_LAYER.search(name)


def say_computed(layers: Iterable[str], by: str = "weight_norm, spectral_norm, ...") -> str:
    """Say of layers that their weights are no parameters; the text of a warning."""
    return (
        f"the weights of {', '.join(layers)} are computed from other parameters ({by}), which are in no neuron group "
        "unless a rule lists them; what feeds these layers is not found"
    )


def say_unlisted(modules: Iterable[str]) -> str:
    """Say of modules that their weights are in no group; the text of a warning."""
    return (
        f"no neuron group has the trained weights of {'; '.join(modules)}: what they read is not found and their "
        "neurons are not measured, unless a rule lists them (for weights of shape (experts, in, out): "
        "lambda name, value: na.dense(name, weight=(name, 'stack in neuron')))"
    )


def check_not_empty(groups: Collection[NeuronGroup], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise if a group has no neurons, or neurons without entries.

    Raises:
        LayoutError: With the group, the parameter and its shape.
    """
    for group in groups:
        for view in group.incoming:
            if 0 in shapes.get(view.param, ()):
                raise LayoutError(
                    f"group {group.name!r}: expected neurons, got parameter {view.param!r} of shape "
                    f"{shapes[view.param]}, which is empty"
                )
