"""Wrappers on several networks of a host, together; no host is needed for it."""

import copy
import pickle

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import ReDo, layout_of, parameters
from neuroactivity_torch.hosts import attachments
from neuroactivity_torch.hosts.attachments import Attachments, Network, check_options, sharing, trained

pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")
INPUTS = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))


def make(seed=0):
    """Return an actor and a critic with an optimizer each."""
    torch.manual_seed(seed)
    nets = {name: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)) for name in ("actor", "critic")}
    optimizers = {name: torch.optim.Adam(net.parameters()) for name, net in nets.items()}
    networks = {
        name: Network(net, optimizers[name], inputs=lambda: INPUTS[:4], probe=lambda: INPUTS)
        for name, net in nets.items()
    }
    return nets, optimizers, networks


def train(nets, optimizers, steps=4):
    for _ in range(steps):
        for name, net in nets.items():
            optimizers[name].zero_grad()
            net(INPUTS).square().mean().backward()
            optimizers[name].step()


def hooks(optimizers):
    return [
        hook
        for each in optimizers.values()
        for hook in (each._optimizer_step_pre_hooks, each._optimizer_step_post_hooks)
    ]


def test_options_of_several_processes_reach_the_wrappers():
    _, _, networks = make()
    options = {"process_group": False, "check_ranks": True}
    check_options("regrama", options)
    attached = Attachments(networks, "regrama", **options)
    assert all(wrapper._check_ranks and not wrapper._ranks for wrapper in attached.values())
    with pytest.raises(ValueError, match=r"^check_ranks: expected True or False, got 3"):
        Attachments(networks, "regrama", check_ranks=3)


def test_each_network_has_a_wrapper_and_every_report_its_name():
    nets, optimizers, networks = make()
    told, recorded = [], []
    attached = Attachments(
        networks,
        "regrama",
        record=lambda name, report: recorded.append(name),
        on_report=lambda name, report: told.append((name, report)),
        every=2,
        tau=0.5,
    )
    train(nets, optimizers)
    assert recorded == [name for name, _ in told] == ["actor", "critic"] * 2
    assert told[-1][1] == attached["critic"].last_report
    assert attached["actor"].neurons_reset > 0
    fraction = attached.scalars()["neuroactivity/critic/0/inactive_fraction"]
    assert fraction == attached["critic"].last_report["0"].inactive_fraction
    attached.detach()
    assert not any(hooks(optimizers))


def test_networks_of_equal_names_draw_different_values():
    _, _, networks = make()
    attached = Attachments(networks, "regrama", seed=1)
    fresh = [wrapper._fresh.draw(1, ["0.weight"])["0.weight"] for wrapper in attached.values()]
    assert not torch.equal(*fresh)


def test_measuring_needs_no_inputs_and_lists_the_layout():
    nets, optimizers, networks = make()
    networks = {name: Network(each.model, each.optimizer) for name, each in networks.items()}
    before = copy.deepcopy(parameters(nets["actor"]))
    attached = Attachments(networks, "measure", every=1)
    assert {group.status for group in attached["actor"].layout.values()} == {"listed"}
    train(nets, optimizers, 1)
    assert attached["actor"].measurements == 1
    assert not torch.equal(before["0.weight"], nets["actor"][0].weight)
    with pytest.raises(na.LayoutError, match=r"^example_inputs: what the model is called with is needed"):
        Attachments(networks, "regrama")
    with pytest.raises(ValueError, match=r"^method: there is nothing to judge the activations of actor on"):
        Attachments({"actor": Network(nets["actor"], optimizers["actor"], inputs=lambda: INPUTS)}, "redo")


def test_redo_runs_the_probe():
    nets, optimizers, networks = make()
    attached = Attachments(networks, "redo", only=["critic"], every=1)
    train(nets, optimizers, 1)
    assert list(attached) == ["critic"]
    assert isinstance(attached["critic"], ReDo)
    assert attached["critic"].measurements == 1


def test_a_saved_state_spares_the_search(monkeypatch):
    nets, optimizers, networks = make()
    first = Attachments(networks, "regrama", every=2, tau=0.5)
    train(nets, optimizers)
    state = pickle.loads(pickle.dumps(first))  # what a host saves of it
    assert type(state) is dict
    first.detach()
    monkeypatch.setattr(attachments, "layout_of", None)
    second = Attachments(networks, "regrama", state=state, every=2, tau=0.5)
    assert second["actor"].steps == 4
    assert second["actor"].neurons_reset == first["actor"].neurons_reset > 0
    third = Attachments(make()[2], "regrama", state=state, initializer="layer")
    third.load_state_dict(second.state_dict())
    with pytest.raises(ValueError, match=r"^state: expected the networks actor, critic, got actor$"):
        third.load_state_dict({"actor": state["actor"]})


def test_a_state_that_does_not_fit_starts_anew_with_a_warning():
    _, _, networks = make()
    first = Attachments(networks, "regrama", initializer="snapshot")
    state = first.state_dict()
    first.detach()
    with pytest.warns(na.ActivityWarning, match=r"^(actor|critic) starts anew: state: its snapshot"):
        second = Attachments(networks, "regrama", state=state)
    assert second["actor"].steps == 0


def test_a_measured_run_that_is_continued_with_resets_is_searched():
    _, _, networks = make()
    state = Attachments(networks, "measure").state_dict()
    with pytest.warns(na.ActivityWarning, match="starts anew: "):
        attached = Attachments(networks, "regrama", state=state)
    assert attached["actor"].layout["0"].status == "exclusive"


def test_if_one_network_fails_none_stays_attached():
    nets, optimizers, networks = make()
    networks["critic"] = Network(nets["critic"], optimizers["critic"], inputs=lambda: torch.zeros(4, 5))
    with pytest.raises(na.LayoutError):
        Attachments(networks, "regrama")
    assert not any(hooks(optimizers))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("grama", {}, "^method: expected 'regrama', 'redo' or 'measure'"),
        ("regrama", {"tau": -1}, "^tau: "),
        ("redo", {"batches": 3, "every": 2}, "^batches: "),
        ("measure", {"seed": 0.5}, "^seed: "),
    ],
)
def test_options_are_checked_early(method, options, message):
    with pytest.raises(ValueError, match=message):
        check_options(method, options)


def test_unknown_names():
    with pytest.raises(TypeError, match="evry"):
        check_options("regrama", {"evry": 1})
    with pytest.raises(ValueError, match=r"^networks: expected some of actor, critic, got critics$"):
        Attachments(make()[2], "regrama", only=["critics"])


def test_what_an_optimizer_trains_and_who_shares_it():
    nets, optimizers, _ = make()
    nets |= {"target": copy.deepcopy(nets["critic"]), "head": nn.Sequential(nets["critic"][0], nn.Linear(8, 2))}
    found = trained(nets, optimizers.values())
    assert {name: optimizer for name, (_, optimizer) in found.items()} == {**optimizers, "head": optimizers["critic"]}
    assert sharing("critic", nets) == ["head"]
    assert sharing("actor", nets) == []


def test_readers_of_a_network_are_part_of_the_search():
    nets, optimizers, _ = make()
    network = Network(nets["critic"], optimizers["critic"], lambda: INPUTS[:4], readers=[nets["critic"][0]])
    layout = Attachments({"critic": network}, "regrama")["critic"].layout
    assert layout["0"].status != layout_of(nets["critic"], INPUTS[:4])["0"].status == "exclusive"


@pytest.mark.sampled(1)
@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("one", [True, False], ids=["one optimizer", "two optimizers"])
@pytest.mark.parametrize("method", ["regrama", "redo"])
def test_what_several_networks_train_is_left_alone(one, method):
    trunk = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    nets = {name: nn.Sequential(trunk, nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)) for name in "ab"}
    both = torch.optim.Adam(nn.ModuleDict(nets).parameters())
    optimizers = {name: both if one else torch.optim.Adam(net.parameters()) for name, net in nets.items()}
    networks = {
        name: Network(net, optimizers[name], lambda: INPUTS[:4], lambda: INPUTS, readers=[nets["ab".strip(name)]])
        for name, net in nets.items()
    }
    attached = Attachments(networks, method, every=1, tau=0.9)
    before = [value.clone() for value in trunk.parameters()]
    for wrapper in attached.values():
        assert not any(group.resettable for path, group in wrapper.layout.items() if path.startswith("0."))
        assert wrapper.layout["1"].resettable
    for optimizer in optimizers.values():
        optimizer.param_groups[0]["lr"] = 0.0
    train(nets, optimizers, steps=2)
    assert all(wrapper.neurons_reset > 0 for wrapper in attached.values())
    assert all(torch.equal(old, new) for old, new in zip(before, trunk.parameters(), strict=True))


@pytest.mark.counts(faults=1)
def test_a_state_of_a_network_with_other_parameters_is_not_gone_on_from():
    _, _, networks = make()
    state = Attachments(networks, "regrama", every=2).state_dict()
    deep = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
    other = Network(deep, torch.optim.Adam(deep.parameters()), lambda: INPUTS[:4])
    message = "^critic starts anew: its state is of a network with other parameters$"
    with pytest.warns(na.ActivityWarning, match=message):
        found = Attachments({"critic": other}, "regrama", state=state)
    assert found["critic"].layout["2"].status == "exclusive"


@pytest.mark.counts(faults=1)
def test_a_state_is_loaded_for_all_networks_or_for_none():
    _, _, networks = make()
    attached = Attachments(networks, "regrama", every=2)
    state = attached.state_dict()
    state["actor"]["steps"], state["critic"]["steps"] = 7, -1
    with pytest.raises(ValueError, match="steps"):
        attached.load_state_dict(state)
    assert [wrapper.steps for wrapper in attached.values()] == [0, 0]


def test_no_network_at_all_is_refused():
    with pytest.raises(ValueError, match=r"^optimizer: expected one that trains networks of the host, got none"):
        Attachments({}, "measure")
