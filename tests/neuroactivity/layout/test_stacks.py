"""From the layout of one member to that of a stack of members."""

import numpy as np
import pytest

import neuroactivity as na

MEMBER = na.Layout(
    [
        na.conv(
            "conv",
            weight=("conv.weight", "neuron in h w"),
            bias="conv.bias",
            outgoing=[na.ParamView("fc.weight", "out (neuron hw)", {"hw": 4})],
        ),
        na.NeuronGroup("fc", [("fc.weight", "neuron in")], partners=["gate"], status="exclusive", reason="proved"),
        na.NeuronGroup(
            "gate", [("gate.weight", "neuron in")], outgoing=[na.ParamView("v", "neuron", index=[-1, 0, 1])]
        ),
        na.dense("head", weight=("head.weight", "neuron in"), resettable=False),
    ]
)


def arrays(rng, *stack):
    shapes = {"conv.weight": (3, 2, 5, 5), "conv.bias": (3,), "fc.weight": (2, 12), "gate.weight": (2, 7), "v": (3,)}
    shapes["head.weight"] = (1, 2)
    return {name: rng.standard_normal((*stack, *shape)).astype(np.float32) for name, shape in shapes.items()}


def test_each_member_is_scored_masked_and_reset_as_by_itself():
    rng, layout = np.random.default_rng(0), na.stacked(MEMBER)
    params, grads, fresh = arrays(rng, 4), arrays(rng, 4), arrays(rng, 4)
    layout.validate(params)
    scores = na.grama(grads, layout)
    masks = na.reset_masks(scores, tau=0.97)
    new = na.reset(params, fresh, masks, layout)
    for member in range(4):
        own, own_grads, own_fresh = ({k: v[member] for k, v in d.items()} for d in (params, grads, fresh))
        alone = na.grama(own_grads, MEMBER)
        own_masks = na.reset_masks(alone, tau=0.97)
        for name in MEMBER:
            np.testing.assert_allclose(scores[name][member], alone[name], rtol=1e-6)
            np.testing.assert_array_equal(masks[name][member], own_masks[name])
        for name, value in na.reset(own, own_fresh, own_masks, MEMBER).items():
            np.testing.assert_array_equal(new[name][member], value)


def test_activations_have_their_members_in_front():
    layout = na.stacked(MEMBER)
    assert layout["conv"].activation == "stack batch neuron ..."
    outputs = {"conv": np.ones((4, 8, 3, 2, 2), np.float32), "head": np.ones((4, 8, 1), np.float32)}
    scores = na.tau_dormant(outputs, na.Layout([layout["conv"], layout["head"]]))
    assert (scores["conv"].shape, scores["head"].shape) == ((4, 3), (4, 1))


def test_all_that_is_known_of_a_group_stays():
    layout = na.stacked(MEMBER)
    assert (layout["fc"].status, layout["fc"].reason, layout["fc"].partners) == ("exclusive", "proved", ("gate",))
    assert not layout["head"].resettable
    assert layout["conv"].outgoing == (na.ParamView("fc.weight", "stack out (neuron hw)", {"hw": 4}),)
    assert layout["gate"].outgoing[0].index == (-1, 0, 1)
    assert na.Layout.from_dict(layout.to_dict()) == layout


def test_names_of_parameters_groups_and_partners_are_mapped():
    layout = na.stacked(MEMBER, rename=lambda name: f"critics.{name}")
    assert list(layout) == ["critics.conv", "critics.fc", "critics.gate", "critics.head"]
    assert layout["critics.fc"].partners == ("critics.gate",)
    assert {view.param for _, view in layout["critics.conv"].views} == {
        "critics.conv.weight", "critics.conv.bias", "critics.fc.weight",
    }  # fmt: skip


def test_a_stack_of_stacks():
    seeds = na.stacked(na.stacked(MEMBER))
    assert seeds["head"].incoming[0].pattern == "stack stack neuron in"
    shapes = {name: value.shape for name, value in arrays(np.random.default_rng(0), 3, 2).items()}
    assert seeds["head"].bind(shapes).shape == (6, 1)


def test_errors():
    with pytest.raises(na.LayoutError, match=r"^expected the Layout of one member, got 'critic'$"):
        na.stacked("critic")
    with pytest.raises(na.LayoutError, match=r"^group 'one': expected each name once, got it twice$"):
        na.stacked(MEMBER, rename=lambda name: "one" if "." not in name else name)
    with pytest.raises(na.LayoutError, match=r"expected two strings$"):
        na.stacked(MEMBER, rename={}.get)
    fused = na.Layout([na.dense("fc", weight=("w", "(stack neuron) in", {"stack": 2}))])
    with pytest.raises(na.LayoutError, match=r"'stack \(stack neuron\) in': sizes has 'stack', which stands for sev"):
        na.stacked(fused)
