"""Find what every neuron group feeds: a loop over stages, from the plain cases to those that cannot be proved."""

from collections.abc import Sequence
from dataclasses import replace

from neuroactivity.arrays import Arrays
from neuroactivity.discovery import direct, fused, heads, norms, partners, residual, unproved
from neuroactivity.discovery.claims import Known
from neuroactivity.discovery.gradients import GradientFunction, OutputFunction
from neuroactivity.discovery.prober import CENTERS, SILENCING_BIASES, Prober
from neuroactivity.layout import Layout, NeuronGroup

# A stage is a function from the prober and what is known so far to claims. ``read`` stages probe and write evidence.
_CONCLUDE = (direct.claim, norms.claim, partners.claim)
_STAGES = (direct.read, *_CONCLUDE, fused.claim, norms.read, *_CONCLUDE, residual.claim)


def discover_outgoing(
    layout: Layout,
    grad_fn: GradientFunction,
    draws: Sequence[Arrays],
    *,
    output_fn: OutputFunction | None = None,
    seed: int = 0,
) -> Layout:
    """Find what every neuron group feeds, from the model's gradient function alone.

    Neurons are silenced, a random quarter of every group at once, in probes over redrawn parameters. The gradient of a
    parameter entry is a product with the output of the neuron that feeds it, so an entry is fed by neuron ``i`` if its
    gradient vanished in every probe that silenced ``i``. What is found is proved from the other side: with the outgoing
    entries of a random half of the neurons zeroed, exactly those neurons must lose their gradients.

    Args:
        layout: The neuron groups with their incoming and unscored parameters; outgoing views are not needed.
        grad_fn: From a parameter mapping to the gradients of one scalar of the model's outputs, ``None`` where there is
            none. The scalar is a fixed random projection of all outputs, and the model is deterministic.
        draws: Parameter mappings with redrawn values, about 16: weights from an initialiser, biases and shifts as 1
            plus noise, scales of size 0.5 to 1 with either sign, so that few neurons are dead by chance.
        output_fn: From a parameter mapping to all outputs of the model, whole numbers too, deterministic. With it, the
            proof sees paths without gradient as well, such as a detached target or a choice by ``argmax``: neurons
            whose outgoing entries are zero must not change any output.
        seed: Seed of the choice of neurons.

    Returns:
        The layout with outgoing views, partners, a status and a reason for each group:

        - ``exclusive``: proved; the neurons feed the outgoing entries and nothing else.
        - ``through_norm``: read by one normalisation alone, whose outgoing entries they share; they take part in its
          statistics.
        - ``shared``: read only together with other groups, as in a residual stream.
        - ``partner``: multiplied with another group's neurons, and read by nothing else (queries and keys).
        - ``head``: feeds the output; not resettable.
        - ``unproved``: anything else. No outgoing entry is guessed, and the group is not resettable: without biases, an
          output head cannot be told from a group whose readers were not found.

    Raises:
        LayoutError: If the layout does not fit the draws.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> def grad_fn(params):  # the output is sum(a x) @ b for x = 1, without an activation function
        ...     return {"a": np.outer(np.ones(3), params["b"][:, 0]), "b": params["a"].sum(axis=0)[:, None]}
        >>> rng = np.random.default_rng(0)
        >>> draws = [{"a": rng.normal(size=(3, 8)), "b": rng.normal(size=(8, 1))} for _ in range(16)]
        >>> groups = [na.dense("a", weight=("a", "in neuron")), na.dense("b", weight=("b", "in neuron"))]
        >>> na.discover_outgoing(na.Layout(groups), grad_fn, draws)["a"].status
        'exclusive'
    """
    prober, known = Prober(layout, grad_fn, draws, output_fn=output_fn, seed=seed), Known(layout)
    known.accept(heads.claim(prober, known))
    for known.bias, known.center in zip(SILENCING_BIASES, CENTERS, strict=True):
        for stage in _STAGES:
            known.accept(stage(prober, known))
    known.accept(heads.claim_unbiased(prober, known))
    known.accept(unproved.claim(prober, known))
    return Layout([_to_group(known, name) for name in layout])


def _to_group(known: Known, name: str) -> NeuronGroup:
    """Write a claim into the group."""
    group, status, reason, outgoing = known.claims[name]
    partners = tuple([partner for partner in known.layout if partner in known.partners(name)])
    group = replace(group, outgoing=tuple(outgoing), partners=partners, status=status, reason=reason)
    return replace(group, resettable=group.resettable and status not in ("head", "unproved"))
