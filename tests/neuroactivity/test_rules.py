"""The rules of published codes against those codes' arithmetic, told again in a few lines of NumPy."""

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity import rules
from tests.adapters.contract.network import FRESH, READERS, draw, gradients, layout

RULES = {name: getattr(rules, name) for name in ("GRAMA", "DOPAMINE", "TIMOKLEIN", "OPTAX_PORT", "AGILERL")}
EPSILON = {"GRAMA": 1e-9, "DOPAMINE": 1e-9, "TIMOKLEIN": 1e-9, "OPTAX_PORT": 1e-8, "AGILERL": 0.0}
TAU = {"GRAMA": 0.0, "DOPAMINE": 0.0, "TIMOKLEIN": 0.1, "OPTAX_PORT": 0.01, "AGILERL": 0.01}
BEYOND_ZERO = [name for name, tau in TAU.items() if tau]
HEADS = {"GRAMA"}
DEAD = {"first": [1, 4], "value": [2], "gate": [], "out": [1]}


def signals(rule, factor=1.0):
    """Return gradients or activations in which these neurons are silent, by the names under which scores get them."""
    values = {name: np.abs(value) + 0.5 for name, value in gradients({}).items()}
    for group, dead in DEAD.items():
        values[f"{group}/kernel"][:, dead] = 0.0
    scaled = {name: (factor * value).astype("float64") for name, value in values.items()}
    return {name: scaled[f"{name}/kernel"] for name in READERS} if rule.method == "redo" else scaled


def naive_scores(name, values):
    """Divide each neuron's mean size by the layer's plus a constant."""
    means = np.abs(values).mean(axis=0)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(means / (means.mean() + EPSILON[name]))


def scores_of(rule, arrays):
    own = na.grama if rule.method == "regrama" else na.tau_dormant
    return rule.options.get("score", own)(arrays, layout())


def masks_of(rule, arrays):
    options = {option: rule.options[option] for option in ("tau", "reset_silent")}
    masks = na.reset_masks(scores_of(rule, arrays), **options)
    groups = rule.layout(layout())
    return {name: mask for name, mask in masks.items() if groups[name].resettable}


@pytest.fixture(params=RULES)
def named(request):
    return request.param, RULES[request.param]


@pytest.mark.parametrize("factor", [1.0, 1e-9, 1e-12, 0.0])
def test_scores_and_masks_are_those_of_the_code(named, factor):
    name, rule = named
    arrays = signals(rule, factor)
    masks = masks_of(rule, arrays)
    assert set(masks) == set(READERS) - (set() if name in HEADS else {"out"})
    for group, score in scores_of(rule, arrays).items():
        expected = naive_scores(name, arrays[group if rule.method == "redo" else f"{group}/kernel"])
        np.testing.assert_allclose(score, expected, rtol=1e-12)
        if group in masks:
            np.testing.assert_array_equal(masks[group], expected <= TAU[name])


@pytest.mark.parametrize("name", BEYOND_ZERO)
def test_where_a_constant_is_added_small_signals_reset_a_whole_layer(name):
    """Of 1e-12 in size; without a constant only the silent neurons are reset."""
    masks = masks_of(RULES[name], signals(RULES[name], 1e-12))
    assert masks["first"].sum() == (7 if EPSILON[name] else 2)


def test_a_silent_layer_is_reset_as_a_whole(named):
    _, rule = named
    assert all(mask.all() for mask in masks_of(rule, signals(rule, 0.0)).values())


def test_what_is_written_is_that_of_the_code(named):
    """Outgoing weights of the first layer, which living neurons of the second read, stay, or become zero or small."""
    name, rule = named
    params, dead = draw(3), DEAD["first"]
    masks = {"first": masks_of(rule, signals(rule))["first"]}
    written = na.reset(params, FRESH, masks, layout(), outgoing=rule.options["outgoing"])
    np.testing.assert_array_equal(written["first/kernel"][:, dead], FRESH["first/kernel"][:, dead])
    np.testing.assert_array_equal(written["first/bias"][dead], FRESH["first/bias"][dead])
    for reader in READERS["first"]:
        old, new = params[f"{reader}/kernel"], written[f"{reader}/kernel"]
        living = np.linalg.norm(np.delete(old, dead, axis=0), axis=1)
        size = {"GRAMA": np.linalg.norm(old[dead], axis=1), "AGILERL": 0.02 * np.sqrt((living**2).mean())}.get(
            name, 0.0
        )
        np.testing.assert_allclose(np.linalg.norm(new[dead], axis=1), size, rtol=1e-5)


def test_clocks_and_periods_are_those_of_the_codes():
    found = {name: (rule.options["clock"], rule.options["every"], rule.method) for name, rule in RULES.items()}
    assert found == {
        "GRAMA": ("run", 1000, "regrama"),
        "DOPAMINE": ("run", 200_000, "redo"),
        "TIMOKLEIN": ("own", 1000, "redo"),
        "OPTAX_PORT": ("run", 1000, "regrama"),
        "AGILERL": ("own", 1000, "regrama"),
    }


def test_no_two_rules_are_the_same():
    told = {name: (rule.method, rule.heads, *sorted(map(str, rule.options.items()))) for name, rule in RULES.items()}
    assert len(set(told.values())) == len(RULES)


def test_options_cannot_be_changed_for_everybody():
    with pytest.raises(TypeError):
        rules.GRAMA.options["tau"] = 1.0


def test_only_heads_are_made_resettable():
    groups = layout(first={"resettable": False})
    assert [group.name for group in rules.GRAMA.layout(groups).values() if not group.resettable] == ["first"]
    assert rules.DOPAMINE.layout(groups) == groups


def test_a_rule_that_leaves_outgoing_weights_alone_needs_no_proof():
    groups = [na.NeuronGroup(name, [(name, "neuron in")], [], [], resettable=False, status=status)
              for name, status in (("a", "unproved"), ("b", "head"), ("c", "shared"))]  # fmt: skip
    found = {name: RULES[name].layout(na.Layout(groups)) for name in ("GRAMA", "DOPAMINE")}
    assert [found["GRAMA"][name].resettable for name in "abc"] == [True, True, False]
    assert [found["DOPAMINE"][name].resettable for name in "abc"] == [False, False, False]
