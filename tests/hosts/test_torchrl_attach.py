"""``attach`` to the losses of TorchRL, in a few of their steps."""

import pytest
import torch
from torch import nn

from neuroactivity_torch import ReDo
from tests.hosts.audit import Audit, check_operations

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
tensordict = pytest.importorskip("tensordict")
torchrl = pytest.importorskip("torchrl")
modules, objectives = pytest.importorskip("torchrl.modules"), pytest.importorskip("torchrl.objectives")
record = pytest.importorskip("torchrl.record")
host = pytest.importorskip("neuroactivity_torch.hosts.torchrl")

SPACE = torchrl.data.Bounded(-1, 1, (1,))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, observation, action):
        return self.net(torch.cat([observation, action], -1))


def make_actor(*, deterministic=False):
    tail = nn.Tanh() if deterministic else tensordict.nn.NormalParamExtractor()
    network = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 1 if deterministic else 2), tail)
    if deterministic:
        return tensordict.nn.TensorDictModule(network, in_keys=["observation"], out_keys=["action"])
    module = tensordict.nn.TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
    kwargs = {"distribution_class": modules.TanhNormal, "return_log_prob": True}
    return modules.ProbabilisticActor(module, ["loc", "scale"], **kwargs)


def make(kind):
    """Return a loss, and a batch for it."""
    torch.manual_seed(0)
    critic = modules.ValueOperator(Critic(), in_keys=["observation", "action"])
    done = torch.zeros(16, 1, dtype=torch.bool)
    after = {"observation": torch.randn(16, 3), "reward": torch.randn(16, 1), "done": done, "terminated": done}
    batch = {"observation": torch.randn(16, 3), "action": torch.rand(16, 1), "next": after}
    if kind == "SAC":
        loss = objectives.SACLoss(make_actor(), critic, action_spec=SPACE)
    elif kind == "TD3":
        loss = objectives.TD3Loss(make_actor(deterministic=True), critic, action_spec=SPACE)
    elif kind == "PPO":
        value = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 1))
        loss = objectives.ClipPPOLoss(make_actor(), modules.ValueOperator(value, in_keys=["observation"]))
        batch |= {
            "action_log_prob": torch.zeros(16),
            "advantage": torch.randn(16, 1),
            "value_target": torch.randn(16, 1),
        }
    else:
        value = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2))
        actor = modules.QValueActor(value, in_keys=["observation"], spec=torchrl.data.Categorical(2))
        loss = objectives.DQNLoss(actor, action_space="categorical")
        batch["action"] = torch.randint(0, 2, (16,))
    if kind != "PPO":
        loss.make_value_estimator()
    return loss, tensordict.TensorDict(batch, [16])


def train(loss, optimizers, batch, steps=8):
    for _ in range(steps):
        values = loss(batch)
        for optimizer in optimizers:
            optimizer.zero_grad()
        sum(value for key, value in values.items() if key.startswith("loss")).backward()
        for optimizer in optimizers:
            optimizer.step()


def optimizers_of(loss):
    trained = [part for name, part in loss.named_children() if name.endswith("_params") and "target" not in name]
    return [torch.optim.Adam(part.parameters()) for part in trained]


def attach(loss, optimizers, batch, **options):
    held = {name.removesuffix("_params"): part for name, part in loss.named_children()}
    pairs = host.trained(held, optimizers)
    audit = Audit(nn.ModuleDict(held), pairs)
    options = {"every": 2, "tau": 0.5, "on_report": audit, **options}
    attached = host.attach(loss, optimizers, batch, **options)
    audit.layouts = {name: lambda name=name: attached[name]._reported for name in attached}
    return audit, attached


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("SAC", {"actor_network", "qvalue_network"}),
        ("TD3", {"actor_network", "qvalue_network"}),
        ("PPO", {"actor_network", "critic_network"}),
        ("DQN", {"value_network"}),
    ],
)
def test_scores_resets_and_moments(kind, names):
    loss, batch = make(kind)
    optimizers = optimizers_of(loss)
    audit, attached = attach(loss, optimizers, batch)
    train(loss, optimizers, batch)
    assert attached.keys() == names
    for name, wrapper in attached.items():
        assert wrapper.measurements == 4
        assert wrapper.neurons_reset == audit.reset[name] > 0
        first = next(iter(wrapper.layout.values()))
        assert (first.status, first.stacks) == ("exclusive", int(name == "qvalue_network"))
    attached.detach()
    audit.check_detached()


def test_fresh_members_differ():
    loss, batch = make("SAC")
    attached = host.attach(loss, optimizers_of(loss), batch)
    fresh = attached["qvalue_network"]._fresh.draw(1, ["module.net.0.weight"])["module.net.0.weight"]
    assert fresh.shape == (2, 12, 4)
    assert not torch.equal(fresh[0], fresh[1])


def test_redo_runs_what_is_not_stacked():
    loss, batch = make("PPO")
    optimizers = optimizers_of(loss)
    attached = host.attach(loss, optimizers, batch, "redo", every=2, tau=0.5, probe=lambda: batch)
    train(loss, optimizers, batch)
    assert all(isinstance(wrapper, ReDo) and wrapper.measurements == 4 for wrapper in attached.values())
    loss, batch = make("SAC")
    with pytest.raises(ValueError, match=r"^method: qvalue_network is called under vmap"):
        host.attach(loss, optimizers_of(loss), batch, "redo")
    assert list(host.attach(loss, optimizers_of(loss), batch, "redo", networks=["actor_network"])) == ["actor_network"]


def test_a_trunk_that_actor_and_critic_share_is_left_alone():
    td = tensordict.nn
    trunk = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())
    common = td.TensorDictModule(trunk, in_keys=["observation"], out_keys=["hidden"])
    head = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2), td.NormalParamExtractor())
    head = td.TensorDictModule(head, in_keys=["hidden"], out_keys=["loc", "scale"])
    kwargs = {"distribution_class": modules.TanhNormal, "return_log_prob": True}
    actor = modules.ProbabilisticActor(head, ["loc", "scale"], **kwargs)
    value = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1))
    both = modules.ActorValueOperator(common, actor, modules.ValueOperator(value, in_keys=["hidden"]))
    loss = objectives.ClipPPOLoss(both.get_policy_operator(), both.get_value_operator())
    optimizer, (_, batch) = torch.optim.Adam(loss.parameters()), make("PPO")
    audit, attached = attach(loss, [optimizer], batch)
    train(loss, [optimizer], batch)
    for name, wrapper in attached.items():
        assert not any(group.resettable for path, group in wrapper.layout.items() if path.startswith("module.0."))
        assert wrapper.neurons_reset == audit.reset[name] > 0


def test_measuring_lists_the_layouts_and_writes_nothing():
    loss, batch = make("TD3")
    optimizers = optimizers_of(loss)
    audit, attached = attach(loss, optimizers, batch, method="measure")
    train(loss, optimizers, batch)
    assert not any(audit.reset.values())
    assert {group.status for wrapper in attached.values() for group in wrapper.layout.values()} == {"listed"}


def test_the_logger_gets_every_report(tmp_path):
    logger = record.CSVLogger("run", str(tmp_path))
    loss, batch = make("DQN")
    optimizers = optimizers_of(loss)
    host.attach(loss, optimizers, batch, "measure", every=2, logger=logger)
    train(loss, optimizers, batch)
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.csv")}
    assert any(file.endswith("neuroactivity/value_network/inactive_fraction.csv") for file in files), files


def test_the_state_goes_on():
    loss, batch = make("SAC")
    optimizers = optimizers_of(loss)
    attached = host.attach(loss, optimizers, batch, every=2, tau=0.5)
    train(loss, optimizers, batch)
    other, batch = make("SAC")
    again = host.attach(other, optimizers_of(other), batch, every=2, tau=0.5)
    again.load_state_dict(attached.state_dict())
    assert again["qvalue_network"].neurons_reset == attached["qvalue_network"].neurons_reset > 0
    with pytest.raises(ValueError, match=r"^state: expected the networks actor_network, qvalue_network, got nothing$"):
        again.load_state_dict({})


def test_what_would_never_measure_or_log_is_refused():
    loss, batch = make("SAC")
    foreign = torch.optim.Adam(nn.Linear(1, 1).parameters())
    for optimizers in ([], foreign):
        with pytest.raises(ValueError, match=r"^optimizer: expected one that trains networks of the host"):
            host.attach(loss, optimizers, batch)
    with pytest.raises(ValueError, match=r"^logger: expected one with a method log_scalar\(\), got 3$"):
        host.attach(loss, optimizers_of(loss), batch, logger=3)


def test_between_measurements_nothing_is_computed():
    def learn(size, **options):
        loss, batch = make("SAC")
        optimizers = optimizers_of(loss)
        if options:
            host.attach(loss, optimizers, batch, "measure", **options)
        train(loss, optimizers, batch[:size])

    check_operations(learn)


@pytest.mark.parametrize("method", ["regrama", "measure"])
def test_attaching_draws_nothing_from_the_global_generator(method):
    loss, batch = make("SAC")
    optimizers, state = optimizers_of(loss), torch.get_rng_state()
    host.attach(loss, optimizers, batch, method, every=2)
    assert torch.equal(state, torch.get_rng_state())
