"""What the tests of DACER's parts share."""

import itertools

import jax

from tests.reference_agents.cases import ACTION, OBSERVATION

HIDDEN = ("layer1", "layer2", "layer3")
ACTOR = ("time1", "time2", *HIDDEN, "head")


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def chained(*names):
    """What each layer feeds, by its name: all of the next one, and the last one nothing."""
    return {name: (f"{after}/kernel", "neuron out", None) for name, after in itertools.pairwise(names)}


def check_actors_layout(layout):
    offset = OBSERVATION + ACTION
    fed = chained(*ACTOR) | {"time2": ("layer1/kernel", "neuron out", (*[-1] * offset, *range(16)))}
    assert set(layout) == set(ACTOR)
    for name, group in layout.items():
        assert [(view.param, view.pattern) for view in group.incoming] == [(f"{name}/kernel", "in neuron")]
        assert [(view.param, view.pattern) for view in group.unscored] == [(f"{name}/bias", "neuron")]
        found = [(view.param, view.pattern, view.index) for view in group.outgoing]
        assert found == ([fed[name]] if name in fed else [])
        assert (group.status, group.resettable) == (("head", False) if name == "head" else ("exclusive", True))
        assert not group.partners
