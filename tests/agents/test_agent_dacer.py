"""DACER: the chain that takes noise away, the estimate of the entropy, the critics of distributions, the agent."""

import itertools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

import jax_cases
from agent_cases import ACTION, OBSERVATION, batch
from jax_cases import agent_of, moved, parts
from neuroactivity_jax import layout_of
from reference_agents.agent import Batch
from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.jax import dacer, diffusion
from reference_agents.jax.dacer import Returns
from reference_agents.jax.diffusion import TIME, Denoiser, denoise, variance_preserving
from reference_agents.jax.entropy import FLOOR, entropy, fit
from reference_agents.train import main

STEPS = st.integers(1, 100)
SETTINGS = {"entropy_every": 9, "diffusion_steps": 3}
HIDDEN = ("layer1", "layer2", "layer3")
ACTOR = ("time1", "time2", *HIDDEN, "head")
each_reset = pytest.mark.parametrize(
    "reset", ["regrama", pytest.param("redo", marks=pytest.mark.slow), pytest.param("none", marks=pytest.mark.slow)]
)


@pytest.fixture
def compiled_once(monkeypatch):
    monkeypatch.setattr(dacer, "SAMPLES", 20)
    with jax_cases.compiled_once():
        yield


def small(**settings):
    return agent_of("dacer", **SETTINGS | settings)


def learn(agent, *seeds):
    for seed in seeds:
        agent.update(batch(seed))


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


# The schedule


@given(STEPS)
def test_the_schedule_preserves_variance_and_ends_in_noise(steps):
    schedule = diffusion.Schedule(*map(np.asarray, variance_preserving(steps)))
    assert all(values.shape == (steps,) and values.dtype == np.float32 for values in schedule)
    np.testing.assert_allclose(schedule.signal**2 + schedule.noise**2, 1, rtol=1e-6)
    assert (np.diff(schedule.signal) < 0).all()
    assert schedule.signal[-1] == pytest.approx(math.exp(-5.05 / 2), rel=1e-5)  # whatever the number of steps


@given(STEPS)
def test_undoing_a_step_leads_to_the_distribution_before_it(steps):
    schedule = diffusion.Schedule(*map(np.asarray, variance_preserving(steps)))
    signal, noise = np.append(1, schedule.signal[:-1]), np.append(0, schedule.noise[:-1])
    np.testing.assert_allclose(schedule.from_clean + schedule.from_noisy * schedule.signal, signal, rtol=1e-5)
    variance = (schedule.from_noisy * schedule.noise) ** 2 + schedule.fresh**2
    np.testing.assert_allclose(variance, noise**2, rtol=1e-4, atol=1e-7)
    assert (schedule.from_clean[0], schedule.from_noisy[0], schedule.fresh[0]) == (1, 0, 0)


# The chain


def perfect(schedule, estimate):
    """A denoiser that knows the actions: an estimate of them from noisy ones, given the shares of signal and noise."""

    def predict(noisy, number):
        signal, noise = (jnp.array(values)[number.astype(int)] for values in (schedule.signal, schedule.noise))
        return (noisy - signal * estimate(noisy, signal, noise)) / noise

    return predict


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_perfect_denoiser_of_one_action_leads_to_that_action(steps):
    schedule, action = variance_preserving(steps), jnp.array([0.3, -0.9, 1.0])
    predict = perfect(schedule, lambda *_: action)
    actions, path = denoise(predict, schedule, normal(0, 50, 3), normal(1, steps, 50, 3))
    np.testing.assert_allclose(actions, jnp.broadcast_to(action, (50, 3)), atol=1e-5)
    assert path.shape == (steps, 50, 3)
    np.testing.assert_array_equal(path[-1], normal(0, 50, 3))


def test_a_perfect_denoiser_of_two_actions_leads_to_each_as_often_as_it_occurs():
    schedule = variance_preserving(20)

    def expected(noisy, signal, noise):
        log_odds = math.log(3) + noisy * signal / noise**2  # of 0.5 against -0.5, which is a third as likely
        return jnp.tanh(log_odds / 2) / 2

    actions, _ = denoise(perfect(schedule, expected), schedule, normal(0, 4000, 1), normal(1, 20, 4000, 1))
    assert (abs(abs(actions) - 0.5) < 0.02).mean() > 0.98  # the others were noisy enough to be either up to the end
    assert (actions > 0).mean() == pytest.approx(0.75, abs=0.03)


def test_the_chain_is_what_a_plain_loop_computes_and_stays_within_bounds():
    schedule, start, fresh = variance_preserving(4), normal(0, 30, 2), normal(1, 4, 30, 2)
    predict = lambda noisy, number: jnp.sin(3 * noisy + number)  # noqa: E731
    noisy, path = start, []
    for number in reversed(range(4)):
        kept = (schedule.signal[number] / schedule.signal[number - 1]) ** 2 if number else schedule.signal[0] ** 2
        before = 1 - schedule.noise[number - 1] ** 2 if number else 1.0
        power = schedule.signal[number] ** 2
        clean = np.clip((noisy - (1 - power) ** 0.5 * predict(noisy, number)) / power**0.5, -1, 1)
        mean = before**0.5 * (1 - kept) / (1 - power) * clean + kept**0.5 * (1 - before) / (1 - power) * noisy
        path.append(noisy)
        noisy = mean + ((1 - kept) * (1 - before) / (1 - power)) ** 0.5 * fresh[number]
    actions, found = denoise(predict, schedule, start, fresh)
    np.testing.assert_allclose(actions, noisy, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, path[::-1], rtol=1e-4, atol=1e-5)
    assert abs(actions).max() <= 1


def test_the_gradient_goes_through_every_step():
    schedule = variance_preserving(3)

    def action(factors):
        predict = lambda noisy, number: noisy * factors[number.astype(int)]  # noqa: E731
        return denoise(predict, schedule, jnp.full((1, 1), 0.1), jnp.zeros((3, 1, 1)))[0].sum()

    assert (jax.grad(action)(jnp.full(3, 0.9)) != 0).all()


# The denoising network and its layout


def test_numbers_are_embedded_as_sines_and_cosines():
    found = diffusion.sinusoids(jnp.array([[0.0], [1.0], [7.0]]))
    assert found.shape == (3, TIME)
    np.testing.assert_allclose(found[0], [0] * 8 + [0.25] * 8)
    np.testing.assert_allclose(found[1:, 3] * 4, np.sin(np.array([1, 7]) * 10_000 ** (-3 / 8)), rtol=1e-5)
    np.testing.assert_allclose((found**2).sum(1), 0.5, rtol=1e-5)


def test_the_network_is_that_of_dacer():
    actor = Denoiser(Config(framework="jax", algo="dacer", activation="mish"), 11, 3)
    params = actor.start(jax.random.key(0))
    assert {name: layer["kernel"].shape for name, layer in params.items()} == {
        "time1": (16, 32),
        "time2": (32, 16),
        "layer1": (11 + 3 + 16, 256),
        "layer2": (256, 256),
        "layer3": (256, 256),
        "head": (256, 3),
    }
    inputs = jnp.concatenate([normal(0, 4, 14), jnp.full((4, 1), 2.0)], axis=1)
    time = jax.nn.mish(diffusion.sinusoids(inputs[:, 14:]) @ params["time1"]["kernel"] + params["time1"]["bias"])
    x = jnp.concatenate([inputs[:, :14], time @ params["time2"]["kernel"] + params["time2"]["bias"]], axis=1)
    for layer in HIDDEN:
        x = jax.nn.mish(x @ params[layer]["kernel"] + params[layer]["bias"])
    expected = x @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(actor(params, inputs), expected, rtol=1e-4, atol=1e-5)


def chained(*names):
    """What each layer feeds, by its name: all of the next one, and the last one nothing."""
    return {name: (f"{after}/kernel", "neuron out", None) for name, after in itertools.pairwise(names)}


def check_actors_layout(layout):
    offset = OBSERVATION + ACTION
    fed = chained(*ACTOR) | {"time2": ("layer1/kernel", "neuron out", (*[-1] * offset, *range(16)))}
    assert set(layout) == set(ACTOR)
    for name, group in layout.items():
        assert [(view.param, view.pattern) for view in group.incoming] == [(f"{name}/kernel", "in neuron")]
        assert [(view.param, view.pattern) for view in group.restored] == [(f"{name}/bias", "neuron")]
        found = [(view.param, view.pattern, view.index) for view in group.outgoing]
        assert found == ([fed[name]] if name in fed else [])
        assert (group.status, group.resettable) == (("head", False) if name == "head" else ("exclusive", True))
        assert not group.partners


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


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 5])
def test_the_whole_chain_shows_the_same_layout_though_its_steps_share_their_weights(steps):
    actor = Denoiser(Config(framework="jax", algo="dacer", width=8), OBSERVATION, ACTION)
    schedule, start, fresh = variance_preserving(steps), normal(0, 8, ACTION), normal(1, steps, 8, ACTION)

    def chain(params):
        def predict(noisy, number):
            return actor(params, jnp.concatenate([normal(2, 8, OBSERVATION), noisy, jnp.full((8, 1), number)], axis=1))

        return denoise(predict, schedule, start, fresh)[0]

    check_actors_layout(layout_of(actor.start(jax.random.key(3)), chain))


# The entropy

estimate = jax.jit(entropy)


def gaussian(seed, dimension, count):
    """Samples of a Gaussian, and its entropy."""
    factor = 0.3 * np.eye(dimension) + 0.2 * np.asarray(normal(100 + dimension, dimension, dimension))
    true = dimension / 2 * (1 + math.log(2 * math.pi)) + np.linalg.slogdet(factor)[1]
    return normal(seed, count, dimension) @ factor.T, true


def mixture(seed, dimension, count):
    """Samples of three Gaussians far apart, and their entropy."""
    weights, spreads = np.array([0.5, 0.3, 0.2]), np.array([0.5, 1.0, 0.2])
    centres = 8 / dimension**0.5 * np.array([-1, 0, 1])
    which = np.random.default_rng(seed).choice(3, p=weights, size=count)
    samples = centres[which][:, None] + spreads[which][:, None] * normal(seed, count, dimension)
    each = dimension / 2 * (1 + math.log(2 * math.pi)) + dimension * np.log(spreads)
    return samples, (weights * (each - np.log(weights))).sum()


@pytest.mark.parametrize("draw", [gaussian, mixture])
@pytest.mark.parametrize(
    ("dimension", "count", "tolerance"),
    [(1, 200, 0.2), (2, 200, 0.35), pytest.param(4, 5000, 0.1, marks=pytest.mark.slow)],
)
def test_the_entropy_of_a_known_distribution_is_found(draw, dimension, count, tolerance):
    for seed in range(5):
        samples, true = draw(seed, dimension, count)
        assert estimate(samples) == pytest.approx(true, abs=tolerance)


@pytest.mark.parametrize("dimension", [1, 2])
def test_the_mixture_is_the_one_that_scikit_learn_finds(dimension):
    samples, _ = mixture(0, dimension, 200)
    theirs = GaussianMixture(3, random_state=0, reg_covar=FLOOR).fit(np.asarray(samples, np.float64))
    ours = jax.jit(fit)(samples)
    assert estimate(samples) == pytest.approx(-theirs.score(samples), abs=0.02)
    order, expected = np.argsort(ours.means[:, 0]), np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(ours.weights[order], theirs.weights_[expected], atol=0.01)
    np.testing.assert_allclose(ours.means[order], theirs.means_[expected], atol=0.05)
    np.testing.assert_allclose(ours.covariances[order], theirs.covariances_[expected], atol=0.1)


def test_the_entropy_grows_with_the_logarithm_of_the_scale_and_not_with_the_place():
    samples, _ = gaussian(0, 2, 200)
    assert float(estimate(3 * samples + 5) - estimate(samples)) == pytest.approx(2 * math.log(3), abs=0.02)


def test_the_entropy_of_actions_at_their_bounds_is_finite_and_low():
    point = math.log(2 * math.pi * FLOOR) / 2  # in one dimension, no more than what is added
    assert estimate(jnp.full((200, 2), 0.7)) == pytest.approx(2 * point, rel=1e-3)
    assert estimate(jnp.sign(normal(0, 200, 1))) == pytest.approx(math.log(2) + point, abs=0.02)
    corners = jnp.sign(normal(0, 200, 21))
    assert jnp.isfinite(estimate(corners))
    assert jnp.isfinite(estimate(corners * jnp.eye(1, 21)))  # all on a line


# The critics


def test_the_lower_prediction_is_the_one_with_the_lower_mean():
    outputs = {"critic1": jnp.array([[1.0, 5.0], [2.0, 6.0]]), "critic2": jnp.array([[0.0, 7.0], [3.0, 8.0]])}
    found = dacer.lowest(lambda params, _: params, outputs, jnp.zeros((2, 1)), jnp.zeros((2, 1)))
    expected = Returns(np.array([[0.0], [2.0]]), np.log1p(np.exp([[7.0], [6.0]])))
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-6), found, expected)


@pytest.mark.parametrize("latest", [0.0, 0.5])
def test_the_critics_gradient_is_that_of_dsac_t(latest):
    outputs, values = normal(0, 6, 2), batch(0, size=6)
    goal, drawn = 2 * normal(1, 6, 1), 4 * normal(2, 6, 1)
    mean, spread = np.asarray(outputs[:, 0]), np.log1p(np.exp(outputs[:, 1]))
    typical = latest + 5e-3 * (spread.mean() - latest) if latest else spread.mean()
    expected = np.zeros((6, 2))
    for i in range(6):
        bounded = min(max(drawn[i, 0], mean[i] - 3 * typical), mean[i] + 3 * typical)
        expected[i, 0] = -(goal[i, 0] - mean[i]) / (spread[i] ** 2 + 0.1)
        of_spread = -((bounded - mean[i]) ** 2 - spread[i] ** 2) / (spread[i] ** 3 + 0.1)
        expected[i, 1] = of_spread / (1 + math.exp(-outputs[i, 1]))  # the slope of the spread, a softplus
    gradient, outcome = jax.grad(dacer.distribution_error, has_aux=True)(
        outputs, lambda params, _: params, values, goal, drawn, jnp.array(latest)
    )
    np.testing.assert_allclose(gradient, (typical**2 + 0.1) * expected / 6, rtol=1e-4, atol=1e-6)
    assert float(outcome.spread) == pytest.approx(float(typical))
    assert float(outcome.loss) == pytest.approx(float(((goal[:, 0] - mean) ** 2).mean()), rel=1e-5)
    assert (abs(drawn[:, 0] - mean) > 3 * typical).any()  # some are clipped


# The agent


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


@each_reset
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
    assert agent._learn._cache_size() == 1  # whoever's turn it is


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
    expected |= {"depth": 3, "actor_depth": 3, "width": 256, "policy_every": 2, "target_rate": 5e-3, "replay_ratio": 1}
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
