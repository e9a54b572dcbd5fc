"""DACER: its layouts, its critics of distributions, and what it learns."""

import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reference_agents.agent import Batch
from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.jax import dacer
from reference_agents.jax.dacer import ReturnDistribution
from reference_agents.train import main
from tests.reference_agents.cases import ACTION, OBSERVATION, batch
from tests.reference_agents.jax import cases as jax_cases
from tests.reference_agents.jax.cases import agent_of, moved, parts
from tests.reference_agents.jax.dacer_cases import ACTOR, HIDDEN, chained, check_actors_layout, normal

SETTINGS = {"alpha_delay": 9, "diffusion_steps": 3}


@pytest.fixture
def compiled_once(monkeypatch):
    monkeypatch.setattr(dacer, "ENTROPY_SAMPLES", 20)
    with jax_cases.compiled_once():
        yield


def small(**settings):
    return agent_of("dacer", **SETTINGS | settings)


def learn(agent, *seeds):
    for seed in seeds:
        agent.update(batch(seed))


@pytest.mark.slow
def test_layouts_are_found(compiled_once):
    agent = small()
    layout = agent.actor_learner.layout
    assert tuple(layout) == ACTOR
    check_actors_layout(layout)
    for learner in agent.critic_learners.values():
        fed = chained(*HIDDEN, "head")
        assert tuple(learner.layout) == (*HIDDEN, "head")
        for name, group in learner.layout.items():
            found = [(view.param, view.pattern, view.index) for view in group.outgoing]
            assert found == ([fed[name]] if name in fed else [])
            assert group.status == ("head" if name == "head" else "exclusive")


# The critics


def test_the_lower_prediction_is_the_one_with_the_lower_mean():
    outputs = {"critic1": jnp.array([[1.0, 5.0], [2.0, 6.0]]), "critic2": jnp.array([[0.0, 7.0], [3.0, 8.0]])}
    found = dacer.min_q(lambda params, _: params, outputs, jnp.zeros((2, 1)), jnp.zeros((2, 1)))
    expected = ReturnDistribution(np.array([[0.0], [2.0]]), np.log1p(np.exp([[7.0], [6.0]])))
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-6), found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("latest", [0.0, 0.5])
def test_the_critics_gradient_is_that_of_dsac_t(latest):
    outputs, values = normal(0, 6, 2), batch(0, size=6)
    target_q, drawn = 2 * normal(1, 6, 1), 4 * normal(2, 6, 1)
    mean, spread = np.asarray(outputs[:, 0]), np.log1p(np.exp(outputs[:, 1]))
    typical = latest + 5e-3 * (spread.mean() - latest) if latest else spread.mean()
    expected = np.zeros((6, 2))
    for i in range(6):
        bounded = min(max(drawn[i, 0], mean[i] - 3 * typical), mean[i] + 3 * typical)
        expected[i, 0] = -(target_q[i, 0] - mean[i]) / (spread[i] ** 2 + 0.1)
        of_spread = -((bounded - mean[i]) ** 2 - spread[i] ** 2) / (spread[i] ** 3 + 0.1)
        expected[i, 1] = of_spread / (1 + math.exp(-outputs[i, 1]))  # the slope of the spread, a softplus
    gradient, outcome = jax.grad(dacer.dsac_t_loss, has_aux=True)(
        outputs, lambda params, _: params, values, target_q, drawn, jnp.array(latest)
    )
    np.testing.assert_allclose(gradient, (typical**2 + 0.1) * expected / 6, rtol=1e-4, atol=1e-6)
    assert float(outcome.mean_std) == pytest.approx(float(typical))
    assert float(outcome.loss) == pytest.approx(float(((target_q[:, 0] - mean) ** 2).mean()), rel=1e-5)
    assert (abs(drawn[:, 0] - mean) > 3 * typical).any()  # some are clipped


# The agent


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_actions_are_bounded_and_the_best_guess_is_decided_by_the_observation():
    agent, twin = small(), small()
    observation = np.ones(OBSERVATION, np.float32)
    drawn = [agent.act(observation, explore=True) for _ in range(20)]
    np.testing.assert_array_equal(drawn, [twin.act(observation, explore=True) for _ in range(20)])
    best = [agent.act(observation, explore=False) for _ in range(2)]
    np.testing.assert_array_equal(*best)
    twin.act(observation, explore=True)
    np.testing.assert_array_equal(best[0], twin.act(observation, explore=False))
    others = {agent.act(observation + n, explore=False).tobytes() for n in range(30)}
    assert len(others) > 10  # clipped, some are alike
    for action in drawn + best:
        assert action.shape == (ACTION,)
        assert action.dtype == np.float32
        assert action.flags.writeable
        assert (abs(action) <= 1).all()


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_exploration_adds_noise_in_proportion_to_alpha():
    agent, observations = small(exploration_noise=0.02), normal(0, 2000, OBSERVATION)
    params, key = agent.state.actor.params, jax.random.key(1)
    without, _ = agent._explore(params, jnp.array(-jnp.inf), observations, key)
    np.testing.assert_array_equal(without, agent._sample(params, observations, jax.random.split(key)[0])[0])
    for alpha in (3.0, 5.0):
        noise = (agent._explore(params, jnp.log(alpha), observations, key)[0] - without)[abs(without) < 0.5]
        assert noise.std() == pytest.approx(0.02 * alpha, rel=0.1)
        assert noise.mean() == pytest.approx(0, abs=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_activations_are_measured_in_all_steps_of_the_chain():
    agent, observations = small(), normal(0, 500, OBSERVATION)
    params, key = agent.state.actor.params, jax.random.key(1)
    actions, inputs = agent._sample(params, observations, key)
    assert inputs.shape == (500, OBSERVATION + ACTION + 1)
    np.testing.assert_array_equal(inputs[:, :OBSERVATION], observations)
    number = np.asarray(inputs[:, -1])
    np.testing.assert_array_equal(number, np.arange(500) % 3)
    noisy, schedule = inputs[:, OBSERVATION:-1], agent.schedule
    last = number == 0  # from there one step leads to the action
    clean = (noisy - schedule.noise[0] * agent.actor(params, inputs)) / schedule.signal[0]
    np.testing.assert_allclose(actions[last], jnp.clip(clean, -1, 1)[last], rtol=1e-4, atol=1e-5)
    start = jax.random.normal(key, (4, 500, ACTION))[0]
    np.testing.assert_array_equal(noisy[number == 2], start[number == 2])


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_critics_learn_in_each_update_actor_and_targets_in_every_second_and_alpha_rarely():
    agent = small()
    assert {name: value for name, value in agent.losses().items() if value is not None} == {"alpha": pytest.approx(3)}
    for update in range(1, 10):
        before, alpha = parts(agent), agent.losses()["alpha"]
        learn(agent, update)
        changed = {name.split("/")[0] for name in moved(before, parts(agent))}
        critics = {"critic1", "critic2"}
        assert changed == (critics if update % 2 else critics | {"actor", "target of critic1", "target of critic2"})
        assert (agent.losses()["alpha"] != alpha) == (update == 9)
        unknown = {name for name, value in agent.losses().items() if value is None}
        assert unknown == ({"loss/actor"} if update == 1 else set()) | ({"entropy"} if update < 9 else set())
    assert all(math.isfinite(value) for value in agent.losses().values())
    assert agent.losses()["spread"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_alpha_rises_where_the_entropy_is_below_its_target_and_falls_above():
    values, agent = Batch(*map(jnp.array, batch(0, size=2))), small()
    assert agent.target_entropy == -0.9 * ACTION

    def step(state, target):
        agent.target_entropy = target
        return agent._update_alpha(state, values).log_alpha.params - state.log_alpha.params

    steps = jax.jit(step)
    assert float(steps(agent.state, -100.0)) == pytest.approx(-3e-2, rel=1e-3)
    assert float(steps(agent.state, 100.0)) == pytest.approx(3e-2, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("reset", ["none", "redo", "regrama"])
@pytest.mark.usefixtures("compiled_once")
def test_a_saved_agent_goes_on_as_it_would_have(reset):
    agent, twin = small(reset=reset), small(reset=reset)
    learn(twin, 100, 101, 102)
    learn(agent, *range(13))
    counts, saved = agent.activity.counts(), agent.save()
    learn(agent, *range(13, 28))
    twin.load(saved)
    assert twin.activity.counts() == counts
    learn(twin, *range(13, 28))
    assert twin.save() == agent.save()
    assert not moved(parts(agent), parts(twin))
    found = agent.activity.counts()
    assert {name: count.measurements for name, count in found.items()} == {"actor": 2, "critic1": 4, "critic2": 4}
    for name, count in found.items():
        assert (count.neurons_reset > counts[name].neurons_reset) == (reset != "none")
    kinds = ("inactive", "dormant") if reset == "redo" else ("inactive",)
    groups = {"actor": ACTOR, "critic1": (*HIDDEN, "head"), "critic2": (*HIDDEN, "head")}
    expected = {f"{kind}/{name}/{group}" for kind in kinds for name, own in groups.items() for group in own}
    assert set(agent.activity.fractions) == expected
    measured = [name for name in expected if not (name.startswith("dormant") and name.endswith("head"))]
    assert all(0 <= agent.activity.fractions[name] <= 1 for name in measured)
    assert agent._compiled_update._cache_size() == 1  # whoever's turn it is


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_the_seed_decides_the_weights_and_what_is_learned():
    runs = []
    for seed in (0, 0, 1):
        agent = small(seed=seed)
        before = parts(agent)
        learn(agent, *range(7))
        runs.append((before, parts(agent)))
    once, again, other = runs
    assert not moved(once[0], again[0])
    assert not moved(once[1], again[1])
    assert moved(once[0], other[0]) == set(once[0])


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_once")
def test_agents_of_several_seeds_can_be_updated_at_once():
    agents = [small(seed=seed, reset="redo", reset_every=2) for seed in range(2)]
    update = jax.jit(jax.vmap(agents[0]._update, in_axes=(0, 0, None, None)))
    stacked = lambda *leaves: jnp.stack(leaves)  # noqa: E731
    states = jax.tree.map(stacked, *(agent.state for agent in agents))
    for number in range(1, 10):
        batches = [batch(10 * number + seed) for seed in range(2)]
        states = update(states, jax.tree.map(stacked, *batches), number % 2 == 0, number % 9 == 0)
        for agent, values in zip(agents, batches, strict=True):
            agent.update(values)
    for seed, agent in enumerate(agents):
        expected, agent.state = parts(agent), jax.tree.map(operator.itemgetter(seed), states)
        for name, value in parts(agent).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-5, err_msg=name)


# The settings


def test_defaults_are_those_of_the_papers_appendix():
    expected = {"actor_lr": 3e-4, "critic_lr": 3e-4, "alpha_lr": 3e-2, "batch_size": 256, "gamma": 0.99, "tau": 0.01}
    expected |= {"depth": 3, "actor_depth": 3, "width": 256, "policy_delay": 2, "polyak": 5e-3, "replay_ratio": 1}
    config = Config(framework="jax", algo="dacer")
    assert {name: getattr(config, name) for name in expected} == expected
    assert (config.reset_every, config.buffer_size, config.diffusion_steps) == (1_000, 1_000_000, 5)
    assert Config.from_json(config.to_json()) == config
    assert Config(algo="dacer", reset="redo").tau == 0.02
    assert Config(algo="dacer", depth=2).actor_depth == 2
    for name in ("actor_lr", "critic_lr", "tau", "depth"):
        assert getattr(Config(algo="dacer", **{name: 7}), name) == 7


@pytest.mark.parametrize("network", ["bronet"])
def test_other_networks_are_refused(network):
    with pytest.raises(UsageError) as caught:
        Config(framework="jax", algo="dacer", network=network)
    assert str(caught.value) == f"network: expected mlp for dacer, got {network!r}"


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_other_frameworks_are_refused_in_one_line(framework, tmp_path, capfd):
    command = ["--env", "Pendulum-v1", "--algo", "dacer", "--framework", framework, "--out", str(tmp_path / "run")]
    assert main(command) == 2
    message = f"error: framework: expected one of jax for dacer, got {framework!r}\n"
    assert capfd.readouterr() == ("", message)
    assert not list(tmp_path.iterdir())
