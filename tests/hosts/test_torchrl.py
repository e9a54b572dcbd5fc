"""In TorchRL: the critics of a loss, stacked in one module of parameters and called under vmap, and its actor."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa, gradients, layout_of, parameters

pytestmark = pytest.mark.filterwarnings("default")  # what a host warns of is its own affair
tensordict = pytest.importorskip("tensordict")
torchrl = pytest.importorskip("torchrl")
modules, objectives = pytest.importorskip("torchrl.modules"), pytest.importorskip("torchrl.objectives")

SEEDED = torch.Generator().manual_seed(0)
OBSERVATIONS, ACTIONS = torch.randn(16, 3, generator=SEEDED), torch.rand(16, 1, generator=SEEDED)


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 12), nn.LayerNorm(12), nn.Linear(12, 1))

    def forward(self, observation, action):
        return self.net(torch.cat([observation, action], -1))


def make_loss(kind):
    """Return the loss, its actor and one critic."""
    torch.manual_seed(0)
    critic, space = make_critic(), torchrl.data.Bounded(-1, 1, (1,))
    if kind is objectives.TD3Loss:
        network = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 1), nn.Tanh())
        actor = tensordict.nn.TensorDictModule(network, in_keys=["observation"], out_keys=["action"])
        loss = objectives.TD3Loss(actor, critic, action_spec=space)
    else:
        network = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2), tensordict.nn.NormalParamExtractor())
        module = tensordict.nn.TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
        actor = modules.ProbabilisticActor(
            module, ["loc", "scale"], distribution_class=modules.TanhNormal, return_log_prob=True
        )
        loss = objectives.SACLoss(actor, critic, action_spec=space)
    loss.make_value_estimator()
    return loss, actor, critic


def batch():
    done = torch.zeros(16, 1, dtype=torch.bool)
    after = {"observation": torch.randn(16, 3), "reward": torch.randn(16, 1), "done": done, "terminated": done}
    return tensordict.TensorDict({"observation": OBSERVATIONS, "action": ACTIONS, "next": after}, [16])


def make_critic():
    return modules.ValueOperator(Critic(), in_keys=["observation", "action"])


def make_critics(key):
    return torch.func.stack_module_state([make_critic(), make_critic()])[0]


@pytest.mark.parametrize("kind", [objectives.SACLoss, objectives.TD3Loss])
def test_stacked_critics_are_reset_row_by_row_while_they_learn(kind):
    loss, _, critic = make_loss(kind)
    critics = loss.qvalue_network_params
    before = {name: (value, value.detach().clone()) for name, value in critics.named_parameters()}
    layout = na.stacked(layout_of(critic, OBSERVATIONS, ACTIONS))
    assert [group.status for group in layout.values()] == ["exclusive", "through_norm", "exclusive", "head"]
    now = dict(critics.named_parameters())
    assert all(now[name] is value and torch.equal(value, old) for name, (value, old) in before.items())

    optimizer = torch.optim.Adam(critics.parameters(), 1e-3)
    regrama = ReGraMa(critics, optimizer, layout=layout, initializer=make_critics, every=2, tau=0.5)
    updater = objectives.SoftUpdate(loss, tau=0.005)
    for _ in range(4):
        optimizer.zero_grad()
        loss(batch())["loss_qvalue"].backward()
        optimizer.step()
        updater.step()
    scores = na.grama(gradients(critics), layout)
    masks = na.reset_masks(scores, tau=0.5)
    assert scores["module.net.0"].shape == (2, 12)
    assert regrama.measurements == 2
    for name in ("module.net.0", "module.net.2", "module.net.3"):
        assert regrama.last_report[name].reset == masks[name].sum() > 0
    outgoing = parameters(critics)["module.net.4.weight"]  # stack out neuron
    assert torch.equal((outgoing == 0).all(1), masks["module.net.3"] | masks["module.net.2"])
    assert all(not torch.equal(value, old) for value, old in before.values())
    assert loss(batch())["loss_qvalue"].isfinite()


def test_the_critics_can_be_named_inside_of_the_loss():
    loss, _, critic = make_loss(objectives.SACLoss)
    layout = na.stacked(layout_of(critic, OBSERVATIONS, ACTIONS), rename=lambda name: f"qvalue_network_params.{name}")
    optimizer = torch.optim.Adam(loss.qvalue_network_params.parameters())
    regrama = ReGraMa(loss, optimizer, layout=layout, initializer="snapshot", every=1)
    loss(batch())["loss_qvalue"].backward()
    optimizer.step()
    assert regrama.last_report["qvalue_network_params.module.net.0"].neurons == 24


def test_the_verifier_confirms_stacked_critics():
    loss, _, critic = make_loss(objectives.SACLoss)
    layout, critics = na.stacked(layout_of(critic, OBSERVATIONS, ACTIONS)), loss.qvalue_network_params

    def grad_fn(params):
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        call = lambda member: torch.func.functional_call(critic, member, (OBSERVATIONS, ACTIONS))  # noqa: E731
        outputs = torch.vmap(call)(leaves)
        return dict(zip(leaves, torch.autograd.grad(outputs.sum(), [*leaves.values()]), strict=True))

    na.verify_layout(layout, parameters(critics), grad_fn)


def test_the_actor_of_a_loss_is_the_actor_itself():
    loss, actor, _ = make_loss(objectives.SACLoss)
    layout = layout_of(actor, tensordict.TensorDict({"observation": OBSERVATIONS}, [16]))
    assert [group.status for group in layout.values()] == ["exclusive", "head"]
    optimizer = torch.optim.Adam(loss.actor_network_params.parameters())
    regrama = ReGraMa(actor, optimizer, layout=layout, every=1, tau=0.5)
    loss(batch())["loss_actor"].backward()
    optimizer.step()
    assert regrama.neurons_reset > 0


def test_a_critic_that_a_loss_has_copied_is_not_what_the_optimizer_trains():
    loss, _, critic = make_loss(objectives.SACLoss)
    optimizer = torch.optim.Adam(loss.qvalue_network_params.parameters())
    with pytest.raises(ValueError, match=r"^the optimizer trains none of the model's neuron groups"):
        ReGraMa(critic, optimizer, example_inputs=(OBSERVATIONS, ACTIONS))
    with (
        pytest.warns(na.ActivityWarning),
        pytest.raises(na.LayoutError, match=r"^SACLoss: found no layer with neurons"),
    ):
        layout_of(loss)


def test_redo_cannot_call_stacked_parameters_and_leaves_the_optimizer_alone():
    loss, _, critic = make_loss(objectives.SACLoss)
    critics = loss.qvalue_network_params
    optimizer, layout = torch.optim.Adam(critics.parameters()), na.stacked(layout_of(critic, OBSERVATIONS, ACTIONS))
    with pytest.raises(NotImplementedError, match="forward"):
        ReDo(critics, optimizer, layout=layout, initializer="snapshot", probe=lambda: (OBSERVATIONS, ACTIONS))
    ReGraMa(critics, optimizer, layout=layout, initializer="snapshot")


def test_stacked_parameters_have_no_initialiser_of_their_own():
    critics = tensordict.from_modules(Critic(), Critic(), as_module=True)
    optimizer, layout = torch.optim.Adam(critics.parameters()), na.stacked(layout_of(Critic(), OBSERVATIONS, ACTIONS))
    with pytest.raises(ValueError, match=r"^parameter 'net.0.weight': TensorDictParams has no reset_parameters\(\)"):
        ReGraMa(critics, optimizer, layout=layout)
    ReGraMa(critics, optimizer, layout=layout, initializer="snapshot")
