"""The rules of published codes, as values of the wrappers' options, to repeat what was measured with them.

Each is told as far as the options go; what they cannot express stands beside it. They differ from the defaults of this
library in three things. All reset a layer without any signal as a whole. All but AgileRL's add a constant to the
score's denominator. Adam's step count goes on, or starts anew for more than what is reset.

Example:
    >>> import neuroactivity as na
    >>> na.rules.DOPAMINE.method, na.rules.DOPAMINE.options["outgoing"]
    ('redo', 'zero')
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from neuroactivity.arrays import Array, Arrays, namespace, no_autograph
from neuroactivity.layout import Layout
from neuroactivity.metrics import magnitudes


@dataclass(frozen=True)
class Rule:
    """What a published code resets, when and how.

    Args:
        method: Which wrapper it is of: ``"regrama"`` or ``"redo"``.
        options: The wrapper's options, the same in all frameworks: ``ReGraMa(model, optimizer, **rule.options)``.
        source: Where the code is.
        heads: Whether output heads are reset too: give the wrapper ``layout=rule.layout(layout)``.
    """

    method: Literal["regrama", "redo"]
    options: Mapping[str, Any]
    source: str
    heads: bool = False

    def layout(self, layout: Layout) -> Layout:
        """Return a layout whose output heads are reset where the rule resets them.

        A rule that leaves outgoing parameters alone resets what nothing is proved of, too.

        Example:
            >>> import neuroactivity as na
            >>> layout = na.Layout([na.dense("out", weight=("w", "neuron in"), resettable=False)])
            >>> [rule.layout(layout)["out"].resettable for rule in (GRAMA, DOPAMINE)]
            [True, False]
        """
        groups = layout.values()
        heads = {group.name for group in groups if group.status in ("head", None) and not group.outgoing}
        if self.options.get("outgoing") == "keep":
            heads |= {group.name for group in groups if group.status == "unproved"}
        return Layout(
            [replace(group, resettable=True) if self.heads and group.name in heads else group for group in groups]
        )


def grama_1e9(grads: Arrays, layout: Layout) -> dict[str, Array]:
    """Score neurons as :func:`neuroactivity.grama` does, with 1e-9 added to the denominator."""
    return _over_mean(magnitudes(grads, layout), 1e-9)


def grama_1e8(grads: Arrays, layout: Layout) -> dict[str, Array]:
    """Score neurons as :func:`neuroactivity.grama` does, with 1e-8 added to the denominator."""
    return _over_mean(magnitudes(grads, layout), 1e-8)


def tau_dormant_1e9(activations: Arrays, layout: Layout) -> dict[str, Array]:
    """Score neurons as :func:`neuroactivity.tau_dormant` does, with 1e-9 added to the denominator."""
    return _over_mean(magnitudes(activations, layout, signal="activations"), 1e-9)


SCORES = (grama_1e9, grama_1e8, tau_dormant_1e9)
"""The scores that rules bring."""


@no_autograph
def _over_mean(means: Arrays, epsilon: float) -> dict[str, Array]:
    sums = {name: namespace(each).sum(each, axis=-1, keepdims=True) for name, each in means.items()}
    return {name: each / (sums[name] / each.shape[-1] + epsilon) for name, each in means.items()}


def _options(tau: float, every: int, **options: Any) -> Mapping[str, Any]:
    return MappingProxyType({"tau": tau, "every": every, "reset_silent": True, **options})


GRAMA = Rule(
    "regrama",
    _options(0.0, 1000, outgoing="keep", clock="run", score=grama_1e9),
    "github.com/rippl-svg/grad-based-plasticity-metrics, utils/ReDo.py, GradientReDo, as it treats LayerNorm too",
    heads=True,
)
"""The code of GraMa's authors: ``score <= tau``, 1e-9, everything reset, heads too, outgoing weights left alone.

Not expressed: fresh weights are Kaiming's with ReLU's gain, √6 times as wide as PyTorch's own; moments are cleared only
where the optimizer was handed over; its gradients are set to zero as well; one infinite gradient marks all other
neurons of its layer. The paper's threshold is 0.01 for BRO-nets and diffusion policies.
"""

DOPAMINE = Rule(
    "redo",
    _options(0.0, 200_000, outgoing="zero", clock="run", score=tau_dormant_1e9),
    "github.com/google/dopamine, dopamine/labs/redo/weight_recyclers.py, NeuronRecycler, 1dd1661",
)
"""Dopamine's ReDo: ``score <= tau``, 1e-9, outgoing zeros written after all incoming weights, heads spared.

Not expressed: fresh weights are Xavier's and biases 0; moments of biases are kept; behind a flatten the zeros land on
other columns. Its first reset is at step 0 of the count plus ``every``, one update later than here. Threshold and
period are set by each experiment (0.1 and 1,000 in others' runs of it).
"""

TIMOKLEIN = Rule(
    "redo",
    _options(0.1, 1000, outgoing="zero", clock="own", score=tau_dormant_1e9),
    "github.com/timoklein/redo, src/redo.py, 2e8d3c0",
)
"""timoklein's ReDo for PyTorch: ``score <= tau``, 1e-9, outgoing zeros, heads spared, on a batch of 64.

Adam's step count starts anew, which for what is reset is ``clock="own"``. Not expressed: it does so for the whole
tensor, also for neurons that are not reset; layers are written one after another, so that fresh weights of the next
layer overwrite zeros; every layer is judged behind a ReLU; at ``tau = 0`` a score of up to 1e-8 counts as zero; fresh
weights are √6 times as wide as PyTorch's own, and biases 0.
"""

OPTAX_PORT = Rule(
    "regrama",
    _options(0.01, 1000, outgoing="zero", clock="run", score=grama_1e8),
    "github.com/LucMc/continual-learning, continual_learning/optim/regrama.py, 50d68c1",
)
"""An optax port of ReGraMa: ``score <= tau``, 1e-8, outgoing zeros, layers called ``output`` spared.

Not expressed: layers follow each other in the order of their names, and fresh weights of the next one overwrite zeros;
fresh weights are He's and biases 0; it counts updates from 0 and so resets one update later than here.
"""

AGILERL = Rule(
    "regrama",
    _options(0.01, 1000, outgoing="small", clock="own"),
    "github.com/AgileRL/AgileRL 2.58.0, agilerl/hpo/regrama.py, and 2.13.0, agilerl/utils/mutation_utils.py",
)
"""AgileRL's mutation: ``score <= tau``, no constant, outgoing weights of 2 % of the living ones' size, heads spared.

Not expressed: it scores each sample's gradient of the pre-activation (``na.grama`` with ``signal="activations"``), and
takes what is not finite for zero; it resets when a population evolves, not every so many steps; all optimizers are made
anew, of which ``clock="own"`` does it for what is reset; 2 % are of the median length of living neurons' outgoing
weights, here of their root mean square; fresh weights are Xavier's and biases 0, and those of the next layer overwrite
outgoing ones.
"""
