"""Every test model's layout is found, is the true one, and is found without disturbing the model."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import layout_of
from tests.neuroactivity.discovery.models import EXAMPLES, discovered
from tests.neuroactivity.discovery.truth import contradictions, shapes_of

STATUSES = ("exclusive", "through_norm", "shared", "partner", "head", "unproved")
QUICK = [name for name in EXAMPLES if not name.startswith(("transformer", "bro", "impala"))]


@pytest.mark.sampled(20)
@pytest.mark.parametrize("name", EXAMPLES)
def test_status_and_outgoing_entries_are_true(name):
    found = discovered(name)
    assert contradictions(found.layout, found.example.truth, shapes_of(found.model)) == []


@pytest.mark.sampled(20)
@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_not_proved_is_not_reset(name):
    for group in discovered(name).layout.values():
        assert group.status in STATUSES
        assert group.reason
        if group.status in ("head", "unproved"):
            assert not group.resettable
            assert group.outgoing == ()
        if group.status in ("shared", "partner"):
            assert group.outgoing == ()
        if group.status == "exclusive":
            assert group.resettable
            assert group.outgoing


@pytest.mark.sampled(20)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_model_is_left_as_it_was(name):
    """Published fault 9."""
    found = discovered(name)
    different = [key for key, value in found.before.items() if value != found.after[key]]
    assert different == []


def test_the_number_of_threads_is_put_back():
    torch.set_num_threads(2)
    layout_of(EXAMPLES["sac actor"].model(), *EXAMPLES["sac actor"].inputs)
    assert torch.get_num_threads() == 2


def test_a_model_that_fails_is_left_as_it_was():
    def refuse(module, args):
        if calls.append(1) or len(calls) > 5:
            raise RuntimeError("not today")

    calls: list[int] = []
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    model[2].eval()
    handle = model[3].register_forward_pre_hook(refuse)
    state, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(RuntimeError, match="not today"):
        layout_of(model, torch.zeros(8, 5))
    handle.remove()
    assert [module.training for module in model] == [True, True, False, True]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.sampled(20)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_description_names_every_group_with_its_status(name):
    layout = discovered(name).layout
    lines = layout.describe().splitlines()
    assert len(lines) == 2 + len(layout)
    for line, group in zip(lines[2:], layout.values(), strict=True):
        words = line.split()
        assert words[0] == group.name
        assert group.status in words
        assert all(view.param in line for view in group.incoming + group.outgoing)
        assert ("never reset" in line) == (not group.resettable)


def test_a_description_in_full():
    expected = """\
group     made by                     feeds                            status     remark
policy.0  policy.0.weight[neuron in]  policy.2.weight[out neuron]      exclusive  proved: feeds nothing else
policy.2  policy.2.weight[neuron in]  policy.4.weight[out neuron]      exclusive  proved: feeds nothing else
policy.4  policy.4.weight[neuron in]  -                                head       feeds the output; never reset
critic.0  critic.0.weight[neuron in]  critic.2.weight[out neuron]      exclusive  proved: feeds nothing else
critic.2  critic.2.weight[neuron in]  critic.4.weight[out neuron]      exclusive  proved: feeds nothing else
critic.4  critic.4.weight[neuron in]  -                                head       feeds the output; never reset
time.0    time.0.weight[neuron in]    time.2.weight[out neuron]        exclusive  proved: feeds nothing else
time.2    time.2.weight[neuron in]    policy.0.weight[out neuron@7-14]  exclusive  proved: feeds nothing else"""
    lines = discovered("dacer").layout.describe().splitlines()
    assert [line.split() for line in (lines[0], *lines[2:])] == [line.split() for line in expected.splitlines()]


@pytest.mark.parametrize("name", ["sac actor", "fused gate", "layer norm", "two streams of one width", "lstm"])
def test_a_seed_finds_the_same_again_whatever_the_global_generator_does(name):
    torch.manual_seed(1234)
    example = EXAMPLES[name]
    again = layout_of(example.model(), *example.inputs, **example.options)
    assert again == discovered(name).layout


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if number % 4 else []) for number, name in enumerate(QUICK)]
)
def test_another_seed_and_other_weights_give_the_same_layout(name):
    example = EXAMPLES[name]
    other = layout_of(example.model(seed=7), *example.inputs, seed=5, **example.options)
    first = discovered(name).layout
    for group in first.values():
        assert (other[group.name].status, other[group.name].outgoing) == (group.status, group.outgoing), group.name
        assert other[group.name].partners == group.partners


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["sac actor", "swiglu without biases", "layer norm", "sigmoid with bias"])
def test_another_precision_gives_the_same_layout(name, dtype):
    example = EXAMPLES[name]
    inputs = [x.to(dtype) if x.is_floating_point() else x for x in example.inputs]
    assert layout_of(example.model().to(dtype), *inputs, **example.options) == discovered(name).layout


def test_example_inputs_of_one_sample_are_enough():
    example = EXAMPLES["sac actor"]
    assert layout_of(example.model(), torch.zeros(1, 5)) == discovered("sac actor").layout


def test_streams_of_one_width_are_told_apart_in_the_reason():
    layout = discovered("two streams of one width").layout
    assert "right" not in layout["left_a"].reason
    assert "left_b" in layout["left_a"].reason


def test_shared_groups_can_be_passed_over():
    example = EXAMPLES["simba actor"]
    skipped = layout_of(example.model(), *example.inputs, shared="skip")
    for name, group in discovered("simba actor").layout.items():
        assert skipped[name].resettable == (group.status not in ("shared", "head", "unproved"))
        assert skipped[name].status == group.status


def test_batch_statistics_of_a_single_sample_are_refused_in_words_of_ours():
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    with pytest.raises(na.LayoutError, match="example_inputs"):
        layout_of(model, torch.zeros(1, 5))
