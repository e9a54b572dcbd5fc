"""What every JAX agent does alike: it acts, is measured and reset, and is saved."""

import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuroactivity_jax import report
from reference_agents.activity import Counts
from reference_agents.agent import Batch
from reference_agents.jax import sac, td3
from tests.reference_agents.cases import ACTION, OBSERVATION, batch
from tests.reference_agents.jax import cases as jax_cases
from tests.reference_agents.jax.cases import COMPILED, agent_of, moved, parts

OTHERS = (("td3", "bronet"), ("sac", "bronet"), ("td3", "mlp"))
AGENTS = [("sac", "mlp"), *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)]
DENSE = ("layer1", "layer2")
RESIDUAL = ("layer", "norm", *(f"block1.{part}" for part in ("layer1", "norm1", "layer2", "norm2")))
ACTORS = {
    ("sac", "mlp"): (*(f"trunk.{group}" for group in DENSE), "mean", "log_std"),
    ("sac", "bronet"): (*(f"trunk.{group}" for group in RESIDUAL), "mean", "log_std"),
    ("td3", "mlp"): (*DENSE, "head"),
    ("td3", "bronet"): (*RESIDUAL, "head"),
}
CRITICS = {"mlp": (*DENSE, "head"), "bronet": (*RESIDUAL, "head")}

each_agent = pytest.mark.parametrize(("algo", "network"), AGENTS)
each_reset = pytest.mark.parametrize(
    ("algo", "network", "reset"),
    [
        ("sac", "mlp", "redo"),
        pytest.param("td3", "bronet", "regrama", marks=pytest.mark.slow),
        pytest.param("sac", "mlp", "none", marks=pytest.mark.slow),
        pytest.param("sac", "mlp", "regrama", marks=pytest.mark.slow),
        pytest.param("sac", "bronet", "redo", marks=pytest.mark.slow),
        pytest.param("sac", "bronet", "regrama", marks=pytest.mark.slow),
        pytest.param("td3", "mlp", "redo", marks=pytest.mark.slow),
        pytest.param("td3", "mlp", "regrama", marks=pytest.mark.slow),
        pytest.param("td3", "bronet", "redo", marks=pytest.mark.slow),
        pytest.param("td3", "bronet", "none", marks=pytest.mark.slow),
    ],
)
RESET = {("sac", "mlp"): "redo", ("td3", "bronet"): "regrama"}  # those compiled in any case


@pytest.fixture(autouse=True)
def compiled_once():
    with jax_cases.compiled_once():
        yield


def learn(agent, *seeds):
    for seed in seeds:
        agent.update(batch(seed))


def stacked(*leaves):
    return jnp.stack(leaves)


def resets(agent):
    return sum(count.resets for count in agent.activity.counts().values())


@pytest.mark.slow
@each_agent
def test_actions_are_bounded_and_drawn_from_the_agents_own_key(algo, network):
    agent, twin = (agent_of(algo, network=network, reset=RESET.get((algo, network), "regrama")) for _ in range(2))
    observation = np.ones(OBSERVATION, np.float32)
    drawn = [agent.act(observation, explore=True) for _ in range(5)]
    np.testing.assert_array_equal(drawn, [twin.act(observation, explore=True) for _ in range(5)])
    assert len({action.tobytes() for action in drawn}) == 5
    best = [agent.act(observation, explore=False) for _ in range(2)]
    np.testing.assert_array_equal(*best)
    for action in drawn + best:
        assert action.shape == (ACTION,)
        assert action.dtype == np.float32
        assert action.flags.writeable
        assert (abs(action) <= 1).all()


@pytest.mark.slow
@each_agent
def test_losses_are_unknown_before_the_first_update(algo, network):
    agent = agent_of(algo, network=network, reset=RESET.get((algo, network), "regrama"))
    assert agent.losses() == dict.fromkeys({"sac": sac, "td3": td3}[algo].LOSSES) | (
        {"alpha": 1.0} if algo == "sac" else {}
    )
    learn(agent, 0)
    unknown = {name for name, value in agent.losses().items() if value is None}
    assert unknown == ({"loss/actor", "entropy"} if algo == "sac" else {"loss/actor"})
    learn(agent, 1)
    assert agent.updates == 2
    assert all(math.isfinite(value) for value in agent.losses().values())


@pytest.mark.slow
@each_reset
def test_the_seed_decides_the_weights_and_what_is_learned(algo, network, reset):
    def learned(seed):
        agent = agent_of(algo, network=network, seed=seed, reset=reset)
        before = parts(agent)
        learn(agent, *range(8))
        return before, parts(agent), agent

    once, again, other = learned(0), learned(0), learned(1)
    for ours, theirs in zip(once[:2], again[:2], strict=True):
        assert not moved(ours, theirs)
    assert moved(once[0], other[0]) == {name for name in once[0] if "norm" not in name}  # scale 1 and shift 0 to all
    assert moved(once[0], once[1]) >= {name for name in once[0] if "layer" in name}
    assert (resets(once[2]) > 0) == (reset != "none")


@each_reset
def test_a_saved_agent_goes_on_as_it_would_have(algo, network, reset):
    agent, twin = (agent_of(algo, network=network, reset=reset) for _ in range(2))
    learn(twin, 100, 101, 102)
    learn(agent, *range(19))
    agent.act(np.ones(OBSERVATION, np.float32), explore=True)
    before, known = resets(agent), (agent.losses(), dict(agent.activity.fractions), agent.activity.counts())
    saved = agent.save()
    learn(agent, *range(19, 42))
    twin.load(saved)
    assert (twin.losses(), twin.activity.fractions, twin.activity.counts()) == known
    assert twin.updates == 19
    learn(twin, *range(19, 42))
    assert twin.losses() == agent.losses()
    assert twin.activity.counts() == agent.activity.counts()
    assert twin.activity.fractions == agent.activity.fractions
    assert (0 < before < resets(agent)) == (reset != "none")
    assert not moved(parts(agent), parts(twin))
    observation = np.ones(OBSERVATION, np.float32)
    np.testing.assert_array_equal(twin.act(observation, explore=True), agent.act(observation, explore=True))
    assert twin.save() == agent.save()


@each_reset
def test_activity_is_measured_by_grama_whatever_resets(algo, network, reset):
    agent = agent_of(algo, network=network, reset=reset)
    assert set(agent.activity.fractions.values()) == {None}
    learn(agent, *range(12))
    networks = {"actor": ACTORS[algo, network], "critic1": CRITICS[network], "critic2": CRITICS[network]}
    expected = [f"inactive/{name}/{group}" for name, groups in networks.items() for group in groups]
    dormant = [name.replace("inactive", "dormant") for name in expected] if reset == "redo" else []
    assert sorted(agent.activity.fractions) == sorted(expected + dormant)
    assert [name for name in agent.activity.fractions if name in expected] == expected  # in the networks' own order
    assert all(0 <= agent.activity.fractions[name] <= 1 for name in expected)
    assert any(agent.activity.fractions[name] is not None for name in dormant) == (reset == "redo")
    actor_steps = 12 if algo == "sac" else 6
    counts = agent.activity.counts()
    assert {name: count.measurements for name, count in counts.items()} == {
        "actor": actor_steps // 6,
        "critic1": 2,
        "critic2": 2,
    }
    assert set(agent.activity.reports()) == set(networks)
    assert (sum(count.neurons_reset for count in counts.values()) > 0) == (reset != "none")


@each_reset
def test_resets_are_counted_as_the_wrapper_that_resets_counts_them(algo, network, reset):
    agent = agent_of(algo, network=network, reset=reset)
    learn(agent, *range(25))
    for name, trained in {"actor": agent.state.actor, **agent.state.critics}.items():
        state = trained.optimizer.inner_state if reset == "redo" else trained.optimizer
        counted = agent.activity.counts()[name]
        assert counted == (int(state.measurements), int(state.resets), int(state.neurons_reset))
        assert counted.measurements >= 2
    assert (resets(agent) > 0) == (reset != "none")


IN_ONE_UPDATE = {"policy_delay": 3, "reset_every": 2}  # actor: steps 1 2 3, 4 5 6 and 7 8 9, measured at the even ones


@pytest.mark.slow
def test_several_measurements_in_one_update_are_all_counted():
    agent = agent_of("sac", reset="regrama", tau=1e9, max_fraction=0.25, **IN_ONE_UPDATE)
    for update in range(1, 10):
        learn(agent, update)
        measured = update // 3 * 3 // 2
        neurons = 2 * 2 * measured  # a quarter of two layers of 8
        assert agent.activity.counts()["actor"] == (measured, measured, neurons)


@pytest.mark.slow
@pytest.mark.parametrize("reset", ["redo", "regrama"])
def test_an_update_tells_what_its_steps_would_tell_one_by_one(reset):
    agent, twin = (agent_of("sac", reset=reset, **IN_ONE_UPDATE) for _ in range(2))
    critics_step, actor_step = jax.jit(twin._update_critics), jax.jit(twin._update_actor)
    expected = Counts()
    for update in range(1, 10):
        learn(agent, update)
        values = Batch(*map(jnp.array, batch(update)))
        twin.state = critics_step(twin.state, values)
        for step in range(update - 2, update + 1) if update % 3 == 0 else ():
            twin.state = actor_step(twin.state, values)
            if step % 2 == 0:
                state = twin.state.actor.optimizer
                found = report(state.inner_state if reset == "redo" else state, twin.actor_learner.layout)
                expected = expected.plus(found)
        assert agent.activity.counts()["actor"] == expected
    assert agent.activity.reports()["actor"].scalars("") == pytest.approx(found.scalars(""))
    assert expected.measurements == 4
    assert expected.resets > 0


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_agents_of_several_seeds_can_be_updated_at_once(algo):
    agents = [agent_of(algo, seed=seed, reset="redo", reset_every=2) for seed in range(3)]
    update = jax.jit(jax.vmap(agents[0]._update, in_axes=(0, 0, None)))
    states = jax.tree.map(stacked, *(agent.state for agent in agents))
    for number in range(1, 9):
        batches = [batch(10 * number + seed) for seed in range(3)]
        states = update(states, jax.tree.map(stacked, *batches), number % 2 == 0)
        for agent, values in zip(agents, batches, strict=True):
            agent.update(values)
    assert update._cache_size() == 1
    for seed, agent in enumerate(agents):
        expected, agent.state = parts(agent), jax.tree.map(operator.itemgetter(seed), states)
        for name, value in parts(agent).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-5, err_msg=name)
        assert resets(agent) > 0


@each_reset
def test_nothing_is_compiled_twice(algo, network, reset):
    agent, observation = agent_of(algo, network=network, reset=reset), np.ones(OBSERVATION, np.float32)
    for update in range(50):
        agent.act(observation, explore=True)
        learn(agent, update)
        if update == 20:
            agent.load(agent.save())
    agent.act(observation, explore=False)
    assert {name: getattr(agent, name)._cache_size() for name in COMPILED} == {
        "_compiled_act": 2,  # to explore and not to
        "_compiled_update": 1,  # whether it is the actor's turn or not
    }


@pytest.mark.slow
@each_agent
def test_a_reset_takes_at_most_a_fraction_and_writes_no_head(algo, network):
    still = {"actor_lr": 0.0, "critic_lr": 0.0}  # only resets move anything
    agent = agent_of(algo, network=network, tau=1e9, max_fraction=0.25, reset_every=2, policy_delay=1, **still)
    before = {name: value for name, value in parts(agent).items() if not name.startswith("target")}
    learn(agent, 0, 1)
    after = {name: value for name, value in parts(agent).items() if not name.startswith("target")}
    groups = {"actor": ACTORS[algo, network], "critic1": CRITICS[network], "critic2": CRITICS[network]}
    heads = ("head", "mean", "log_std")
    for name, count in agent.activity.counts().items():
        assert count.neurons_reset == 2 * len([group for group in groups[name] if group not in heads])
    biases = {name for name in before if name.endswith("/bias")}
    norms = {name for name in before if "norm" in name}  # already as a reset leaves them
    fixed = {name for name in biases if name.split("/")[1] in heads} | norms
    assert moved(before, after) & biases == biases - fixed
    for name in biases - fixed:
        assert (before[name] != after[name]).sum() == 2
        kernel = name.replace("bias", "kernel")
        columns = (before[kernel] != after[kernel]).all(0)  # fresh incoming weights, of the neurons with a fresh bias
        assert (columns >= (before[name] != after[name])).all()


@pytest.mark.slow
@pytest.mark.parametrize("reset", ["redo", "regrama"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid", "swish", "mish"])
@pytest.mark.parametrize(("algo", "network"), [("sac", "mlp"), ("td3", "bronet")])
def test_activations_can_be_measured_and_reset(algo, network, activation, reset):
    settings = {"activation": activation, "reset": reset, "tau": 1.0, "reset_every": 2, "policy_delay": 1}
    agent = agent_of(algo, network=network, **settings)
    learn(agent, 0, 1)
    assert all(count.neurons_reset > 0 for count in agent.activity.counts().values())


@pytest.mark.parametrize(("algo", "network"), AGENTS[:2])
def test_noise_is_drawn_anew_each_time(algo, network):
    agent = agent_of(algo, network=network, reset=RESET[algo, network])
    keys = []
    for update in range(4):
        keys.append(jax.random.key_data(agent.state.key).tolist())
        learn(agent, update)
    agent.act(np.ones(OBSERVATION, np.float32), explore=True)
    keys.append(jax.random.key_data(agent.state.key).tolist())
    assert len({tuple(key) for key in keys}) == 5
