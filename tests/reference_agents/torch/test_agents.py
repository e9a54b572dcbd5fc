"""What every PyTorch agent does alike: it acts, is measured and reset, and is saved."""

import math

import numpy as np
import pytest
import torch

from reference_agents.torch import sac, td3
from reference_agents.torch.networks import ACTIVATIONS
from tests.reference_agents.cases import ACTION, OBSERVATION, batch
from tests.reference_agents.torch.cases import agent_of, moved, snapshot, tensors

pytestmark = [
    pytest.mark.usefixtures("layouts_found_once"),
    pytest.mark.filterwarnings("ignore:.*resets do not last"),  # measured at every step or two
]

AGENTS = [
    ("sac", "mlp"),
    pytest.param("sac", "bronet", marks=pytest.mark.slow),
    ("td3", "mlp"),
    ("td3", "bronet"),
]
DENSE = ("layer1", "layer2")
RESIDUAL = ("layer", "norm", *(f"block1.{part}" for part in ("layer1", "norm1", "layer2", "norm2")))
SECOND_BLOCK = tuple(f"block2.{part}" for part in ("layer1", "norm1", "layer2", "norm2"))
ACTORS = {
    ("sac", "mlp"): (*(f"trunk.{group}" for group in DENSE), "mean", "log_std"),
    ("sac", "bronet"): (*(f"trunk.{group}" for group in RESIDUAL), "mean", "log_std"),
    ("td3", "mlp"): (*DENSE, "head"),
    ("td3", "bronet"): (*RESIDUAL, "head"),
}
CRITICS = {"mlp": (*DENSE, "head"), "bronet": (*RESIDUAL, *SECOND_BLOCK, "head")}

each_agent = pytest.mark.parametrize(("algo", "network"), AGENTS)
each_algo = pytest.mark.parametrize("algo", ["sac", "td3"])


def learn(agent, *seeds):
    for seed in seeds:
        agent.update(batch(seed))


def parts(agent):
    """Every parameter of an agent, by the name of its network and its own."""
    networks = {name: part for name, part in vars(agent).items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": value for name, net in networks.items() for key, value in snapshot(net).items()}


@each_agent
def test_actions_are_bounded_and_drawn_from_the_agents_own_generator(algo, network):
    agent, twin = (agent_of(algo, network=network) for _ in range(2))
    observation = np.ones(OBSERVATION, np.float32)
    torch.manual_seed(0)
    untouched = torch.get_rng_state()
    drawn = [agent.act(observation, explore=True) for _ in range(5)]
    assert torch.equal(torch.get_rng_state(), untouched)
    np.testing.assert_array_equal(drawn, [twin.act(observation, explore=True) for _ in range(5)])
    assert len({action.tobytes() for action in drawn}) == 5
    best = [agent.act(observation, explore=False) for _ in range(2)]
    np.testing.assert_array_equal(*best)
    for action in drawn + best:
        assert action.shape == (ACTION,)
        assert action.dtype == np.float32
        assert (abs(action) <= 1).all()


@each_algo
def test_the_actors_update_leaves_the_critics_gradients_alone(algo):
    agent = agent_of(algo, policy_delay=1)
    agent._batch = tensors(batch(0))
    agent._update_critics(agent._batch)
    gradients = [parameter.grad.clone() for parameter in agent.critics.parameters()]
    assert any(gradient.any() for gradient in gradients)
    agent._update_actor(agent._batch)
    for before, parameter in zip(gradients, agent.critics.parameters(), strict=True):
        assert torch.equal(before, parameter.grad)


@each_algo
def test_losses_are_unknown_before_the_first_update(algo):
    agent, module = agent_of(algo), {"sac": sac, "td3": td3}[algo]
    assert agent.losses() == dict.fromkeys(module.LOSSES) | ({"alpha": 1.0} if algo == "sac" else {})
    learn(agent, 0, 1)
    assert agent.updates == 2
    assert all(math.isfinite(value) for value in agent.losses().values())


@each_agent
def test_the_seed_decides_the_weights_and_what_is_learned(algo, network):
    def learned(seed):
        agent = agent_of(algo, network=network, seed=seed, reset="none")
        before = parts(agent)
        learn(agent, 0, 1, 2, 3)
        return before, parts(agent)

    once, again, other = learned(0), learned(0), learned(1)
    for ours, theirs in zip(once, again, strict=True):
        assert not moved(ours, theirs)
    assert moved(once[0], other[0]) == {name for name in once[0] if "norm" not in name}  # scale 1 and shift 0 to all
    assert moved(*once) >= {name for name in once[0] if "block1" in name or "layer" in name}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("reset", ["none", "redo", "regrama"])
@each_agent
def test_a_saved_agent_goes_on_as_it_would_have(algo, network, reset):
    tau = {"none": 0.2, "redo": 0.5, "regrama": 0.2}[reset]
    agent, twin = (agent_of(algo, network=network, reset=reset, tau=tau, reset_every=8) for _ in range(2))
    learn(twin, 100, 101, 102)
    learn(agent, *range(19))
    before = sum(count.resets for count in agent.activity.counts().values())
    twin.load(agent.save())
    assert twin.losses() == agent.losses()
    assert twin.activity.fractions == agent.activity.fractions
    assert twin.updates == agent.updates == 19
    for update in range(19, 42):
        learn(agent, update)
        learn(twin, update)
    assert twin.losses() == agent.losses()
    assert twin.activity.counts() == agent.activity.counts()
    after = sum(count.resets for count in agent.activity.counts().values())
    assert (0 < before < after) == (reset != "none")
    assert parts(twin).keys() == parts(agent).keys()
    assert not moved(parts(agent), parts(twin))
    observation = np.ones(OBSERVATION, np.float32)
    np.testing.assert_array_equal(twin.act(observation, explore=True), agent.act(observation, explore=True))


@each_agent
def test_activity_is_measured_by_grama_whatever_resets(algo, network):
    agents = {
        reset: agent_of(algo, network=network, reset=reset, reset_every=6) for reset in ("none", "redo", "regrama")
    }
    for agent in agents.values():
        assert set(agent.activity.fractions.values()) == {None}
        learn(agent, *range(12))
    inactive = {reset: set(agent.activity.fractions) for reset, agent in agents.items()}
    networks = {"actor": ACTORS[algo, network], "critic1": CRITICS[network], "critic2": CRITICS[network]}
    expected = {f"inactive/{name}/{group}" for name, groups in networks.items() for group in groups}
    assert inactive["none"] == inactive["regrama"] == expected
    assert inactive["redo"] == expected | {name.replace("inactive", "dormant") for name in expected}
    actor_steps = 12 if algo == "sac" else 6
    for agent in agents.values():
        assert all(0 <= fraction <= 1 for fraction in agent.activity.fractions.values())
        counts = agent.activity.counts()
        assert {name: count.measurements for name, count in counts.items()} == {
            "actor": actor_steps // 6,
            "critic1": 2,
            "critic2": 2,
        }
        assert set(agent.activity.reports()) == set(networks)
    assert all(count.neurons_reset == 0 for count in agents["none"].activity.counts().values())
    assert any(count.neurons_reset > 0 for count in agents["regrama"].activity.counts().values())


@each_algo
@pytest.mark.parametrize("reset", ["none", "redo", "regrama"])
def test_resets_are_counted_as_the_wrapper_that_resets_counts_them(algo, reset):
    agent = agent_of(algo, reset=reset, tau=0.5, reset_every=4)
    learn(agent, *range(13))
    kind = "dormant" if reset == "redo" else "inactive"
    for network, counts in agent.activity.counts().items():
        wrapper = agent.activity._wrappers[f"{kind}/{network}"]
        assert counts == (wrapper.measurements, wrapper.resets, wrapper.neurons_reset)
        assert agent.activity.reports()[network] is wrapper.last_report
        assert (counts.resets > 0) == (reset != "none")


@pytest.mark.parametrize("network", ["mlp", "bronet"])
@pytest.mark.parametrize("reset", ["none", "redo", "regrama"])
def test_the_paper_decides_what_counts_as_inactive(network, reset):
    agent = agent_of("td3", network=network, reset=reset, tau=None)
    grama = {"mlp": 0.0, "bronet": 0.01}[network]
    found = {name: wrapper.tau for name, wrapper in agent.activity._wrappers.items()}
    networks = ("actor", "critic1", "critic2")
    expected = {f"inactive/{name}": grama for name in networks}
    assert found == expected | ({f"dormant/{name}": 0.02 for name in networks} if reset == "redo" else {})


@each_agent
def test_at_most_a_fraction_of_a_layer_is_reset(algo, network):
    agent = agent_of(algo, network=network, tau=1.0, max_fraction=0.125, reset_every=4, policy_delay=1)
    learn(agent, *range(4))
    for name, count in agent.activity.counts().items():
        groups = ACTORS[algo, network] if name == "actor" else CRITICS[network]
        hidden = [group for group in groups if group not in ("head", "mean", "log_std")]
        assert count.neurons_reset == len(hidden) * 2  # an eighth of 16 neurons each


@each_agent
def test_heads_are_never_reset(algo, network):
    settings = {"tau": 1e9, "max_fraction": 0.5, "actor_lr": 0.0, "critic_lr": 0.0}  # only resets move anything
    agent = agent_of(algo, network=network, reset_every=4, policy_delay=1, **settings)
    before = {name: value for name, value in snapshot(agent.actor).items() if name.endswith("bias")}
    learn(agent, *range(4))
    heads = {"head.bias", "mean.bias", "log_std.bias"}
    norms = {name for name in before if "norm" in name}  # already as a reset leaves them
    assert moved(before, agent.actor.state_dict()) == set(before) - heads - norms


@pytest.mark.sampled(2)
@pytest.mark.parametrize("reset", ["redo", "regrama"])
@pytest.mark.parametrize(
    ("algo", "network", "activation"),
    [*(("sac", "mlp", activation) for activation in ACTIVATIONS), ("td3", "bronet", "tanh"), ("td3", "bronet", "mish")],
)
def test_activations_can_be_measured_and_reset(algo, network, activation, reset):
    agent = agent_of(algo, network=network, activation=activation, reset=reset, tau=1.0, reset_every=2, policy_delay=1)
    learn(agent, 0, 1)
    assert all(count.neurons_reset > 0 for count in agent.activity.counts().values())
