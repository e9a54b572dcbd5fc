"""The pieces of DrQ-v2, each against what it should be."""

import functools
import itertools

import numpy as np
import pytest
import torch

from reference_agents.agent import Batch
from reference_agents.config import Config
from reference_agents.envs.images import CHANNELS
from reference_agents.errors import UsageError
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.torch import drqv2
from reference_agents.torch.drqv2 import DrQv2, random_shift
from tests.reference_agents.torch.cases import moved, snapshot, tensors

pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")
SIDE, ACTION = 17, 2
HIDDEN = {
    "features.layer": "through_norm",
    "features.norm": "exclusive",
}


@functools.cache
def _layouts():
    return {}


@pytest.fixture(autouse=True)
def layouts_found_once(monkeypatch):
    def once(model, *inputs):
        key = type(model), *(tuple(value.shape) for value in inputs)
        if key not in _layouts():
            _layouts()[key] = find(model, *inputs)
        return _layouts()[key]

    find = drqv2.layout_of
    monkeypatch.setattr(drqv2, "layout_of", once)


def agent(**settings):
    small = {"width": 16, "batch_size": 8, "tau": 0.2, "reset_every": 50, "image_size": SIDE, "reset": "none"}
    return DrQv2(Config(**small | settings, algo="drqv2"), CHANNELS * SIDE**2, ACTION)


def batch(seed, *, size=8):
    rng = np.random.default_rng(seed)

    def images():
        return rng.integers(0, 256, (size, CHANNELS * SIDE**2), np.uint8)

    return Batch(
        observations=images(),
        actions=rng.uniform(-1, 1, (size, ACTION)).astype(np.float32),
        rewards=rng.normal(size=(size, 1)).astype(np.float32),
        next_observations=images(),
        terminated=(rng.random((size, 1)) < 0.3).astype(np.float32),
    )


def test_the_critics_layout_goes_from_images_through_shared_features_to_two_heads():
    layout = agent().activity.layouts["critic"]
    feeds = {name: [(view.param, view.pattern) for view in group.outgoing] for name, group in layout.items()}
    convolutions = [f"encoder.conv{number}" for number in range(1, 5)]
    for this, following in itertools.pairwise(convolutions):
        assert feeds[this] == [(f"{following}.weight", "out neuron h w")]
    assert feeds["encoder.conv4"] == [("features.layer.weight", "out (neuron hw)")]
    for value in ("value1", "value2"):
        assert feeds[f"{value}.layer1"] == [(f"{value}.layer2.weight", "out neuron")]
        assert feeds[f"{value}.layer2"] == [(f"{value}.head.weight", "out neuron")]
        assert layout[f"{value}.head"].status == "head"
    for group in ("features.layer", "features.norm"):  # in front of the actions, in both
        assert [view.param for view in layout[group].outgoing] == ["value1.layer1.weight", "value2.layer1.weight"]
        for view in layout[group].outgoing:
            assert view.index == (*range(50), *[-1] * ACTION)
    statuses = {name: group.status for name, group in layout.items()}
    hidden = [*convolutions, *(f"{value}.layer{number}" for value in ("value1", "value2") for number in (1, 2))]
    assert statuses == {
        **dict.fromkeys(hidden, "exclusive"),
        **HIDDEN,
        **dict.fromkeys(["value1.head", "value2.head"], "head"),
    }


def test_the_actors_layout_begins_behind_the_encoder():
    statuses = {name: group.status for name, group in agent().activity.layouts["actor"].items()}
    assert statuses == {
        **HIDDEN,
        "policy.layer1": "exclusive",
        "policy.layer2": "exclusive",
        "policy.head": "head",
    }


def test_images_are_shifted_whole_and_their_edges_drawn_out():
    images, reach = torch.randn(200, 2, 42, 42, generator=torch.Generator().manual_seed(0)), 2
    drawn = random_shift(images, torch.Generator().manual_seed(1))
    seen = set()
    for image, new in zip(images, drawn, strict=True):
        padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
        places = [
            (i, j) for i in range(5) for j in range(5) if (padded[:, i : i + 42, j : j + 42] == new.numpy()).all()
        ]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) == 25
    assert torch.equal(drawn, random_shift(images, torch.Generator().manual_seed(1)))


def test_small_images_move_by_a_point_at_least():
    images = torch.arange(15.0).expand(64, 1, 15, 15)
    assert set(random_shift(images, torch.Generator().manual_seed(0))[:, 0, 0, 7].tolist()) == {6.0, 7.0, 8.0}


def test_critics_learn_a_return_of_three_steps_from_shifted_images():
    learner, data = agent(gamma=0.9, policy_noise=0.7, noise_clip=0.4), batch(0)
    for parameter in learner.critic_target.parameters():  # a target unlike the critics that it follows
        parameter.mul_(1.5)
    values, noise = tensors(data), torch.Generator()
    noise.set_state(learner.noise.get_state())

    def images(flat):
        return random_shift(flat.reshape(-1, CHANNELS, SIDE, SIDE) / 255 - 0.5, noise)

    with torch.no_grad():
        seen, following = images(values.observations), images(values.next_observations)
        encoded = learner.critic.encoder(following)
        smoothing = (0.7 * torch.randn(8, ACTION, generator=noise)).clamp(-0.4, 0.4)
        actions = (learner.actor(encoded) + smoothing).clamp(-1, 1)
        inputs = torch.cat([learner.critic_target.features(encoded), actions], 1)
        lower = torch.minimum(learner.critic_target.value1(inputs), learner.critic_target.value2(inputs))
        target_q = values.rewards + 0.9**3 * (1 - values.terminated) * lower
        found = learner.critic(seen, values.actions)
        expected = sum(((value - target_q) ** 2).mean() for value in found)
    learner.update(data)
    assert learner.losses()["loss/critic"] == pytest.approx(expected.item(), rel=1e-5)
    assert learner.losses()["value"] == pytest.approx(found[0].mean().item(), rel=1e-5)


def test_the_encoder_learns_from_the_critics_alone():
    learner, data = agent(), tensors(batch(0))
    learner.update(batch(0))
    critic, actor = snapshot(learner.critic), snapshot(learner.actor)
    learner._update_actor()
    assert moved(critic, learner.critic.state_dict()) == set()
    assert moved(actor, learner.actor.state_dict()) == set(actor)
    critic, actor = snapshot(learner.critic), snapshot(learner.actor)
    learner._update_critic(data)
    assert moved(critic, learner.critic.state_dict()) == set(critic)
    assert moved(actor, learner.actor.state_dict()) == set()


def test_the_actor_climbs_the_lower_of_both_values():
    learner = agent(policy_noise=0.0)
    learner.update(batch(0))
    value = lambda: torch.minimum(*learner.critic.q_values(learner._encoded, learner.actor(learner._encoded))).mean()  # noqa: E731
    before = value().item()
    learner._update_actor()
    assert learner.losses()["loss/actor"] == pytest.approx(-before, rel=1e-5)
    assert value().item() > before


def test_noise_is_cut_off_but_not_its_gradient():
    actions = torch.full((1_000, ACTION), 0.9, requires_grad=True)
    noisy = agent()._add_noise(actions, 1.0, 0.3)
    assert noisy.min() >= 0.6 - 1e-6
    assert (noisy == 1).any()
    noisy.sum().backward()
    assert (actions.grad == 1).all()


def test_targets_follow_at_their_rate():
    learner = agent(polyak=0.1)
    before = snapshot(learner.critic_target)
    learner.update(batch(0))
    after = learner.critic.state_dict()
    assert set(before) == {name for name in after if not name.startswith("encoder.")}
    for name, value in learner.critic_target.state_dict().items():
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * after[name])


@pytest.mark.parametrize("reset", ["regrama", "redo"])
def test_filters_and_neurons_are_measured_and_reset(reset):
    learner = agent(reset=reset, reset_every=2, tau=0.5)
    for seed in range(4):
        learner.update(batch(seed))
    reports = learner.activity.reports()
    assert set(reports) == {"actor", "critic"}
    assert {name: counts.measurements for name, counts in learner.activity.counts().items()} == {
        "actor": 2,
        "critic": 2,
    }
    for group in ("encoder.conv4", "features.norm", "value2.layer1"):
        assert reports["critic"][group].reset > 0


def test_a_loaded_agent_goes_on_as_the_saved_one():
    learner, other = (agent(reset="regrama", reset_every=3) for _ in range(2))
    for seed in range(4):
        learner.update(batch(seed))
    other.update(batch(9))
    other.load(learner.save())
    for one in (learner, other):
        one.update(batch(4))
        one.update(batch(5))
    assert learner.save() == other.save()
    observation = batch(6).observations[0]
    for explore in (False, True):
        np.testing.assert_array_equal(*(one.act(observation, explore=explore) for one in (learner, other)))


def test_learning_before_a_whole_transition_is_refused(tmp_path):
    small = {"width": 16, "image_size": SIDE, "env": "Pendulum-v1", "steps": 4}
    training = Training(Config(**small, algo="drqv2", learning_starts=0), RunFolder(tmp_path))
    with pytest.raises(UsageError, match=r"^n_step, learning_starts: expected a whole transition of 3 steps"):
        training.run()
