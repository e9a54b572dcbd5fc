"""What is withdrawn of a layout where layers share a parameter."""

import neuroactivity as na
from neuroactivity_torch.tied import tie


def group(name, **options):
    return na.NeuronGroup(name, [(f"{name}.weight", "neuron in")], status="exclusive", **options)


def test_layers_that_are_another_one_are_no_partners():
    found = na.Layout([group("a", partners=["b", "twin"]), group("b", partners=["a"]), group("twin", partners=["a"])])
    left = tie(found, [found["a"], found["b"]], {"twin.weight": "c.weight"})
    assert {name: each.partners for name, each in left.items()} == {"a": ("b",), "b": ("a",)}
    assert left["a"].status == "exclusive"


def test_what_a_shared_parameter_makes_or_reads_is_unproved():
    fed = group("a", outgoing=[("b.weight", "out neuron")], partners=["c"])
    found = na.Layout([fed, group("b"), group("c", partners=["a"])])
    left = tie(found, list(found.values()), {"d.weight": "b.weight"})
    assert [each.status for each in left.values()] == ["unproved", "unproved", "exclusive"]
    assert left["a"].reason == "feeds d.weight, which is b.weight as well"
    assert left["b"].reason == "its b.weight is d.weight as well"
    assert (left["a"].partners, left["a"].outgoing) == ((), ())
    assert not any(left[name].resettable for name in "ab")
