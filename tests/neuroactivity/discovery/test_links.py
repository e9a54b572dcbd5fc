"""What the decoded axes mean: what is fed directly, what only through a group without biases, what cannot be told."""

import neuroactivity as na
from neuroactivity.discovery.claims import Claim, Evidence, Known, Link, name_some
from neuroactivity.discovery.links import bias_free_hops, drop_chance, drop_indirect, is_unambiguous, outgoing_views
from neuroactivity.discovery.prober import Prober
from tests.neuroactivity.discovery.arrays import Bottleneck, dense, draws, without_bias


def bottleneck() -> Prober:
    """``b`` has no bias and reads neuron 0 of ``a``; the head reads ``b`` and behind it neuron 1."""
    layout = na.Layout([dense("a"), without_bias("b"), dense("head")])
    return Prober(layout, Bottleneck(), draws(Bottleneck.sizes), seed=0)


def link(prober: Prober, group: str, feeds: dict[int, int]) -> Link:
    return Link(prober.layout[group].incoming[0], 1, feeds, frozenset())


def test_silence_goes_on_through_a_group_without_biases_that_reads_one_neuron():
    prober = bottleneck()
    assert bias_free_hops(prober, link(prober, "b", {0: 0})) == [("b", {0: 0, 1: 0, 2: 0, 3: 0})]
    assert bias_free_hops(prober, link(prober, "head", dict.fromkeys(range(5), 0))) == []


def test_what_lies_behind_such_a_group_is_not_fed_directly():
    prober = bottleneck()
    to_b = link(prober, "b", {0: 0})
    to_head = link(prober, "head", {0: 0, 1: 0, 2: 0, 3: 0, 4: 1})
    evidence = {"b": Evidence([link(prober, "head", {0: 0, 1: 1, 2: 2, 3: 3})])}
    assert drop_indirect(prober, [to_b, to_head], evidence) == [to_b, link(prober, "head", {4: 1})]


def test_a_hop_of_which_not_all_is_known_leaves_it_open_what_is_fed_directly():
    prober = bottleneck()
    to_b, to_head = link(prober, "b", {0: 0}), link(prober, "head", {0: 0, 4: 1})
    known = Known(prober.layout)
    assert not is_unambiguous(prober, [to_b, to_head], known)
    assert is_unambiguous(prober, [to_b], known)
    assert is_unambiguous(prober, [to_b, link(prober, "head", {4: 1})], known)
    known.evidence["b"] = Evidence([link(prober, "head", {0: 0})])
    assert is_unambiguous(prober, [to_b, to_head], known)
    known.evidence["b"].complete = False
    assert not is_unambiguous(prober, [to_b, to_head], known)
    known.accept([Claim(prober.layout["b"], "head", "feeds the output")])
    assert is_unambiguous(prober, [to_b, to_head], known)


def test_a_position_that_is_live_while_a_neuron_is_silent_is_not_fed_by_it():
    prober = bottleneck()
    true, chance = link(prober, "head", {4: 1}), link(prober, "head", {4: 1, 2: 1})
    assert drop_chance(prober, "a", [true], 0.0) == [true]
    assert drop_chance(prober, "a", [chance], 0.0) == [true]
    assert drop_chance(prober, "a", [link(prober, "head", {2: 1})], 0.0) == []


def test_listed_outgoing_views_come_first_and_are_not_found_again():
    listed = na.ParamView("b.weight", "out neuron", index=(0,))
    layout = na.Layout([na.dense("a", weight=("a.weight", "neuron in"), bias="a.bias", outgoing=[listed])])
    prober = Prober(na.Layout([*layout.values(), dense("head")]), Bottleneck(), draws(Bottleneck.sizes), seed=0)
    links = [Link(na.ParamView("b.weight", "neuron in"), 1, {0: 1}, frozenset()), link(prober, "head", {4: 1})]
    assert outgoing_views(prober, "a", links) == [
        listed,
        na.ParamView("head.weight", "out neuron", index=(-1, -1, -1, -1, 1)),
    ]


def test_partners_are_mutual_gates():
    known = Known(na.Layout([dense("a"), dense("b"), dense("head")]))
    known.evidence |= {"a": Evidence(gates={"b", "head"}), "b": Evidence(gates={"a"})}
    assert (known.partners("a"), known.partners("b"), known.partners("head")) == ({"b"}, {"a"}, set())


def test_a_stage_knows_of_its_claims_while_it_makes_them():
    known = Known(na.Layout([dense("a"), dense("b")]))

    def stage():
        for name in ("a", "b"):
            assert name in known.open()
            yield Claim(known.layout[name], "head", "feeds the output")
            assert known.status(name) == "head"

    known.accept(stage())
    assert known.open() == known.open(["a"]) == []


def test_names_are_cut_short():
    assert name_some([1, 2, 3], most=3) == "1, 2, 3"
    assert name_some([1, 2, 3], most=2) == "1, 2 and 1 more"
