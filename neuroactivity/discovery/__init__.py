"""Find out what every neuron group feeds, by probing the model's gradients and outputs; no graph is read.

**The pipeline.** An adapter lists the groups; :mod:`.layouts` samples parameters and starts the search, :mod:`.search`,
which is a loop over stages: functions from the prober and what is known so far to claims. A group that is claimed is
left alone. Each status has its file:

1. :mod:`.heads`: ``head``, feeds the output;
2. for each silencing bias and center, with neurons silenced independently:
   :mod:`.direct`: ``exclusive``, proved to feed its outgoing entries and nothing else,
   :mod:`.norms`: ``through_norm``, read by normalisations alone, or ``head`` if these are heads,
   :mod:`.partners`: ``partner``, multiplied with another group and read by nothing else,
   :mod:`.fused`: ``exclusive`` in coarser neurons, as in a fused gate or a fused query, key and value,
   the first three once more, with probes that a normalisation lets through, and jointly
   :mod:`.residual`: ``shared``, read only together with other groups;
3. :mod:`.unproved`: ``unproved``, the rest, with the reason.

Without a search, :mod:`.listed` says ``listed`` of every group.

Below them: :mod:`.prober` (silence, cut, see which gradients vanish), :mod:`.probes` (series of them, as long as it
takes), :mod:`.decoding` (from these to who feeds which position), :mod:`.links` (what that means for a group),
:mod:`.proof`, :mod:`.claims` (what is known), :mod:`.gradients` (handed over one by one), :mod:`.draws` and
:mod:`.values` (parameters that are sampled, written to and put back), :mod:`.progress`.
Beside them: :mod:`.verify` (checks a layout that somebody wrote), :mod:`.merging` (several axes seen as one).

**Glossary.** The words of these files:

- *silence* neurons: zero their incoming parameters and set their biases, so that they output zero; what they feed has
  no gradient then. *Silencing bias*: 0, or -1e4 or 1e4 for activations that are not zero at zero.
- *cut* neurons off: zero the entries that they feed; they have no gradient then, if they feed nothing else.
- *draw*: one mapping of sampled parameter values. *Probe*: one evaluation of the gradients on a draw.
- *round*: four probes of one draw, which silence every neuron once.
- *live*: has a nonzero gradient.
- *unit*: a group, or several of equal width, whose neurons are silenced or cut off together.
- *axis*, *position*: an axis of a parameter, an index along it.
- *candidates* of a position: the neurons that were active whenever it was live. A single candidate *feeds* it.
- *rivals*: neurons that are candidates of the same position; later rounds silence them apart.
- *undecided*: a position that was live in too few probes.
- *link*: neurons of a group feed positions along an axis of a parameter of another group.
- *one to one*: the positions are the neurons of that group, as in a depthwise convolution or the scale of a norm.
- *norms* of a group: the normalisations whose scales it feeds one to one.
- *gates*: groups whose weights and biases vanish alike with the neurons: they are multiplied with them, not fed.
- *balance* neurons in front of a normalisation: silence half and make the rest opposite in pairs, so that the mean is
  what a silent neuron outputs. *Center*: what is added to all of them, so that an activation function in between is
  linear there.
- *bare* parameters: those of no group. *Held*: set to a value in every probe, so that they add nothing to a stream.
- *without gradient*: a path to the output that gradients do not see, found by the forward check of the proof.
- *evidence*: the links, norms and gates of a group. *Claim*: a status with its reason and outgoing views.
- *open*: nothing is claimed yet. *Examined*: with evidence from the last probes.
- *bias-free hop*: a group without biases falls silent with what it reads, and so what it feeds vanishes too.
- *direct*, *indirect*: fed without such a hop, or only by way of one. *Ambiguous*: which of the two cannot be told.
- *stream*: groups with a reader in common, as the writers of a residual stream.
- *coarse* neuron: several rows of a fused layer that only together are a neuron.
"""

from neuroactivity.discovery.claims import Status
from neuroactivity.discovery.gradients import GradientFunction, OutputFunction
from neuroactivity.discovery.layouts import Rule, SharedNeurons, discover_layout, groups_by_rule
from neuroactivity.discovery.listed import list_layout
from neuroactivity.discovery.merging import MergedAxes
from neuroactivity.discovery.search import discover_outgoing
from neuroactivity.discovery.verify import verify_layout

__all__ = [
    "GradientFunction",
    "MergedAxes",
    "OutputFunction",
    "Rule",
    "SharedNeurons",
    "Status",
    "discover_layout",
    "discover_outgoing",
    "groups_by_rule",
    "list_layout",
    "verify_layout",
]
