"""What every TensorFlow agent does alike: it acts, is measured and reset, and is saved."""

import math
import random

import numpy as np
import pytest
import tensorflow as tf

from reference_agents.tensorflow import learning, sac, td3
from reference_agents.tensorflow.networks import ACTIVATIONS
from tests.reference_agents.cases import ACTION, OBSERVATION
from tests.reference_agents.tensorflow.cases import NETWORKS, agent_of, learn, moved, parts, traced

AGENTS = [
    ("sac", "mlp"),
    ("td3", "mlp"),
    pytest.param("sac", "bronet", marks=pytest.mark.slow),
    pytest.param("td3", "bronet", marks=pytest.mark.slow),
]
DENSE = ("layer1", "layer2")
RESIDUAL = ("layer", "norm", *(f"block1/{part}" for part in ("layer1", "norm1", "layer2", "norm2")))
SECOND_BLOCK = tuple(f"block2/{part}" for part in ("layer1", "norm1", "layer2", "norm2"))
ACTORS = {
    ("sac", "mlp"): (*(f"trunk/{group}" for group in DENSE), "mean", "log_std"),
    ("sac", "bronet"): (*(f"trunk/{group}" for group in RESIDUAL), "mean", "log_std"),
    ("td3", "mlp"): (*DENSE, "head"),
    ("td3", "bronet"): (*RESIDUAL, "head"),
}
CRITICS = {"mlp": (*DENSE, "head"), "bronet": (*RESIDUAL, *SECOND_BLOCK, "head")}

each_agent = pytest.mark.parametrize(("algo", "network"), AGENTS)
each_algo = pytest.mark.parametrize("algo", ["sac", "td3"])


def global_states():
    """What the global generators would draw from."""
    python, numpy = random.getstate(), np.random.get_state()
    keyed = tf.random.get_global_generator().state.numpy().tolist()
    return python, numpy[1].tolist(), numpy[2:], keyed


@pytest.mark.sampled(1)
@each_algo
def test_actions_are_bounded_and_drawn_from_the_agents_own_generator(algo):
    agent, twin = (agent_of(algo) for _ in range(2))
    observation = np.ones(OBSERVATION, np.float32)
    drawn = [agent.act(observation, explore=True) for _ in range(5)]
    np.testing.assert_array_equal(drawn, [twin.act(observation, explore=True) for _ in range(5)])
    assert len({action.tobytes() for action in drawn}) == 5
    best = [agent.act(observation, explore=False) for _ in range(2)]
    np.testing.assert_array_equal(*best)
    for action in drawn + best:
        assert type(action) is np.ndarray
        assert action.shape == (ACTION,)
        assert action.dtype == np.float32
        assert (abs(action) <= 1).all()


@each_algo
def test_losses_are_unknown_before_the_first_update(algo):
    agent, module = agent_of(algo), {"sac": sac, "td3": td3}[algo]
    assert agent.losses() == dict.fromkeys(module.LOSSES) | ({"alpha": 1.0} if algo == "sac" else {})
    learn(agent, 0)
    assert agent.losses()["loss/actor"] is None
    learn(agent, 1)
    assert agent.updates == 2
    assert all(math.isfinite(value) for value in agent.losses().values())


@pytest.mark.sampled(1)
@each_agent
def test_the_seed_decides_the_weights_and_what_is_learned_and_global_generators_nothing(algo, network):
    def learned(seed, elsewhere):
        random.seed(elsewhere)
        np.random.seed(elsewhere)
        tf.random.set_seed(elsewhere)
        untouched = global_states()
        agent = agent_of(algo, network=network, seed=seed, reset_every=2, policy_delay=1)
        before = parts(agent)
        learn(agent, 0, 1)
        assert global_states() == untouched
        assert all(count.neurons_reset for count in agent.activity.counts().values())
        return before, parts(agent)

    once, again, other = learned(0, 0), learned(0, 1), learned(1, 0)
    for ours, theirs in zip(once, again, strict=True):
        assert not moved(ours, theirs)
    assert moved(once[0], other[0]) == {name for name in once[0] if "norm" not in name}  # scale 1 and shift 0 to all
    assert moved(*once) >= {name for name in once[0] if "block1" in name or "layer" in name}


def check_that_it_goes_on(agent, twin, resets):
    """Save one agent in the middle, and let the other one, which has learned otherwise, go on from there."""
    learn(twin, 100, 101, 102)
    learn(agent, *range(19))
    before = sum(count.resets for count in agent.activity.counts().values())
    twin.load(agent.save())
    assert twin.losses() == agent.losses()
    assert twin.activity.fractions == agent.activity.fractions
    assert twin.updates == agent.updates == 19
    learn(agent, *range(19, 34))
    learn(twin, *range(19, 34))
    assert twin.losses() == agent.losses()
    assert twin.activity.counts() == agent.activity.counts()
    after = sum(count.resets for count in agent.activity.counts().values())
    assert (0 < before < after) == resets
    assert parts(twin).keys() == parts(agent).keys()
    assert not moved(parts(agent), parts(twin))
    assert twin.save() == agent.save()
    observation = np.ones(OBSERVATION, np.float32)
    np.testing.assert_array_equal(twin.act(observation, explore=True), agent.act(observation, explore=True))


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_a_saved_agent_goes_on_as_it_would_have(algo):
    check_that_it_goes_on(*(agent_of(algo) for _ in range(2)), resets=True)


@pytest.mark.slow
@pytest.mark.parametrize("reset", ["none", "redo", "regrama"])
@pytest.mark.parametrize("network", ["mlp", "bronet"])
@each_algo
def test_every_saved_agent_goes_on_as_it_would_have(algo, network, reset):
    tau = {"none": 0.2, "redo": 0.5, "regrama": 0.2}[reset]
    pair = [agent_of(algo, graphs=True, network=network, reset=reset, tau=tau) for _ in range(2)]
    check_that_it_goes_on(*pair, resets=reset != "none")


def test_what_is_saved_is_read_without_unpickling(monkeypatch):
    agent, twin = (agent_of("td3") for _ in range(2))
    learn(agent, 0)
    monkeypatch.setattr("pickle.loads", None)
    monkeypatch.setattr("pickle.load", None)
    twin.load(agent.save())
    assert twin.losses() == agent.losses()


@pytest.mark.slow
@each_algo
def test_nothing_is_traced_again(algo):
    agent, _ = traced(algo)
    observation = np.ones(OBSERVATION, np.float32)
    for update in range(50):
        agent.act(observation, explore=update % 2 == 0)
        learn(agent, update)
    functions = (agent._compiled_update, agent._compiled_act, agent._critics_step, agent._actor_step)
    assert [function.experimental_get_tracing_count() for function in functions] == [2, 2, 1, 1]


@pytest.mark.slow
@each_algo
def test_graphs_compute_what_eager_updates_do(algo):
    agent, _ = traced(algo)
    twin = agent_of(algo)
    learn(agent, *range(9))  # a reset after the eighth
    learn(twin, *range(9))
    assert twin.activity.counts() == agent.activity.counts()
    assert agent.losses() == pytest.approx(twin.losses(), rel=1e-3, abs=1e-4)


@pytest.mark.sampled(1)
@each_agent
def test_activity_is_measured_by_grama_whatever_resets(algo, network):
    agents = {
        reset: agent_of(algo, network=network, reset=reset, reset_every=2, policy_delay=1, tau=0.5)
        for reset in ("none", "redo", "regrama")
    }
    for agent in agents.values():
        assert set(agent.activity.fractions.values()) == {None}
        learn(agent, 0, 1)
    inactive = {reset: set(agent.activity.fractions) for reset, agent in agents.items()}
    groups = {"actor": ACTORS[algo, network], "critic1": CRITICS[network], "critic2": CRITICS[network]}
    expected = {f"inactive/{name}/{group}" for name in NETWORKS for group in groups[name]}
    assert inactive["none"] == inactive["regrama"] == expected
    assert inactive["redo"] == expected | {name.replace("inactive", "dormant") for name in expected}
    for reset, agent in agents.items():
        assert all(0 <= fraction <= 1 for fraction in agent.activity.fractions.values())
        counts = agent.activity.counts()
        assert {name: count.measurements for name, count in counts.items()} == dict.fromkeys(NETWORKS, 1)
        kind = "dormant" if reset == "redo" else "inactive"
        for name, count in counts.items():
            wrapper = agent.activity._wrappers[f"{kind}/{name}"]
            assert count == (wrapper.measurements, wrapper.resets, wrapper.neurons_reset)
            assert (count.resets > 0) == (reset != "none")
            assert str(agent.activity.reports()[name]) == str(wrapper.last_report)


@pytest.mark.parametrize("network", ["mlp", pytest.param("bronet", marks=pytest.mark.slow)])
@pytest.mark.parametrize("reset", ["none", "redo", "regrama"])
def test_the_paper_decides_what_counts_as_inactive(network, reset):
    agent = agent_of("td3", network=network, reset=reset, tau=None)
    grama = {"mlp": 0.0, "bronet": 0.01}[network]
    found = {name: wrapper.tau for name, wrapper in agent.activity._wrappers.items()}
    expected = {f"inactive/{name}": grama for name in NETWORKS}
    assert found == expected | ({f"dormant/{name}": 0.02 for name in NETWORKS} if reset == "redo" else {})


@pytest.mark.sampled(1)
@each_agent
def test_at_most_a_fraction_of_a_layer_is_reset(algo, network):
    agent = agent_of(algo, network=network, tau=1.0, max_fraction=0.125, reset_every=4, policy_delay=1)
    learn(agent, *range(4))
    for name, count in agent.activity.counts().items():
        groups = ACTORS[algo, network] if name == "actor" else CRITICS[network]
        hidden = [group for group in groups if group not in ("head", "mean", "log_std")]
        assert count.neurons_reset == len(hidden) * 2  # an eighth of 16 neurons each


@pytest.mark.sampled(1)
@each_agent
def test_resets_change_parameters_and_never_those_of_heads(algo, network):
    settings = {"tau": 1e9, "max_fraction": 0.5, "actor_lr": 0.0, "critic_lr": 0.0}  # only resets move anything
    agent = agent_of(algo, network=network, reset_every=4, policy_delay=1, **settings)
    before = {name: value for name, value in parts(agent).items() if name.endswith(("bias", "beta"))}
    learn(agent, *range(3))
    assert not moved(before, parts(agent))
    learn(agent, 3)
    heads = {name for name in before if name.split("/")[1] in ("head", "mean", "log_std")}
    norms = {name for name in before if "norm" in name}  # already as a reset leaves them
    assert moved(before, parts(agent)) == set(before) - heads - norms


@each_algo
def test_networks_alike_are_reset_to_different_values(algo):
    agent = agent_of(algo, tau=1e9, actor_lr=0.0, critic_lr=0.0, reset_every=1)
    learn(agent, 0)
    first, second = (critic.get_layer("layer1").kernel.numpy() for critic in agent.critics)
    assert (first != second).all()


@pytest.mark.slow
@pytest.mark.parametrize("reset", ["redo", "regrama"])
@pytest.mark.parametrize(
    ("algo", "network", "activation"),
    [*(("sac", "mlp", activation) for activation in ACTIVATIONS), ("td3", "bronet", "tanh"), ("td3", "bronet", "mish")],
)
def test_activations_can_be_measured_and_reset(algo, network, activation, reset):
    agent = agent_of(algo, network=network, activation=activation, reset=reset, tau=1.0, reset_every=2, policy_delay=1)
    learn(agent, 0, 1)
    assert all(count.neurons_reset > 0 for count in agent.activity.counts().values())


def test_threads_are_asked_for_once():
    tf.zeros(1)  # now TensorFlow has begun to compute
    before = tf.config.threading.get_intra_op_parallelism_threads()
    learning.limit_threads(before + 1)
    assert tf.config.threading.get_intra_op_parallelism_threads() == before
