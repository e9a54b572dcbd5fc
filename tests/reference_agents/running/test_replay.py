"""The replay buffer keeps the last transitions, whatever came before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_agents.running.replay import ReplayBuffer


def transition(number):
    """A transition of which every part tells its number."""
    observation = np.full(3, number, np.float32)
    action = np.full(2, number + 0.25, np.float32)
    return observation, action, number + 0.5, observation + 1, number % 3 == 0


def add(buffer, number):
    *step, terminated = transition(number)
    buffer.add(*step, terminated=terminated, truncated=False)


def filled(capacity, count):
    buffer = ReplayBuffer(capacity, observation_size=3, action_size=2)
    for number in range(count):
        add(buffer, number)
    return buffer


@settings(deadline=None)
@given(capacity=st.integers(1, 12), count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_samples_are_whole_transitions_of_the_last_ones(capacity, count, seed):
    buffer = filled(capacity, count)
    kept = list(range(count))[-capacity:]
    assert len(buffer) == len(kept)
    batch = buffer.sample(64, np.random.default_rng(seed))
    for row, number in enumerate(batch.observations[:, 0]):
        assert number in kept
        expected = transition(int(number))
        for column, value in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(column[row], np.float32(value))


@settings(deadline=None)
@given(capacity=st.integers(1, 12), count=st.integers(1, 40))
def test_every_transition_that_is_kept_is_drawn(capacity, count):
    batch = filled(capacity, count).sample(2_000, np.random.default_rng(0))
    assert set(batch.observations[:, 0]) == set(range(count)[-capacity:])


@settings(deadline=None)
@given(capacity=st.integers(1, 12), before=st.integers(1, 30), after=st.integers(0, 30))
def test_a_restored_buffer_goes_on_as_the_saved_one(capacity, before, after):
    original, restored = filled(capacity, before), filled(capacity, 3)
    restored.load_state({name: column.copy() for name, column in original.state().items()})
    for number in range(before, before + after):
        add(original, number)
        add(restored, number)
    for ours, theirs in zip(
        original.sample(32, np.random.default_rng(1)), restored.sample(32, np.random.default_rng(1)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_only_the_filled_part_is_saved():
    state = filled(capacity=1_000, count=5).state()
    assert {name: column.shape for name, column in state.items()} == {
        "added": (),
        "observations": (5, 3),
        "actions": (5, 2),
        "rewards": (5, 1),
        "next_observations": (5, 3),
        "terminated": (5, 1),
    }


def test_samples_are_copies_in_single_precision():
    buffer = filled(capacity=4, count=4)
    batch = buffer.sample(8, np.random.default_rng(0))
    batch.observations[:] = -1
    assert all(column.dtype == np.float32 for column in batch)
    assert (buffer.sample(8, np.random.default_rng(0)).observations >= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_generator_decides_the_sample(seed):
    buffer = filled(capacity=100, count=100)
    once, again, other = (buffer.sample(16, np.random.default_rng(s)).rewards for s in (seed, seed, seed + 1))
    assert (once == again).all()
    assert (once != other).any()


ENDS = st.sampled_from(["goes on", "terminated", "truncated", "both"])


@settings(deadline=None)
@given(ends=st.lists(ENDS, min_size=1, max_size=30), n_step=st.integers(1, 5), gamma=st.sampled_from([0.5, 1.0]))
def test_transitions_over_several_steps_are_those_of_each_episode(ends, n_step, gamma):
    buffer = ReplayBuffer(100, observation_size=1, action_size=1, n_step=n_step, gamma=gamma)
    for number, end in enumerate(ends):
        over = {"terminated": end in ("terminated", "both"), "truncated": end in ("truncated", "both")}
        buffer.add(*(np.full(1, number, np.float32),) * 2, 1.0 + number, np.full(1, number + 0.5, np.float32), **over)

    expected = []
    for first in range(len(ends)):
        steps = list(range(first, min(first + n_step, len(ends))))
        last = next((step for step in steps if ends[step] != "goes on"), steps[-1])
        whole, terminated = last - first == n_step - 1, ends[last] in ("terminated", "both")
        if whole or terminated:
            reward = sum(gamma**k * (1.0 + step) for k, step in enumerate(range(first, last + 1)))
            expected.append([first, first, reward, last + 0.5, terminated])
    found = np.concatenate(list(buffer._columns), axis=1)[: len(buffer)]
    np.testing.assert_allclose(found, np.reshape(expected, (-1, 5)), rtol=1e-6)


def test_images_are_kept_as_bytes():
    buffer = ReplayBuffer(4, observation_size=3, action_size=2, observation_dtype=np.uint8)
    seen, following = np.array([0, 7, 255], np.uint8), np.array([1, 2, 3], np.uint8)
    buffer.add(seen, np.zeros(2, np.float32), 0.0, following, terminated=False, truncated=False)
    batch = buffer.sample(2, np.random.default_rng(0))
    assert [column.dtype for column in batch] == [np.uint8, np.float32, np.float32, np.uint8, np.float32]
    np.testing.assert_array_equal(batch.observations[0], seen)
    np.testing.assert_array_equal(batch.next_observations[0], following)


def test_a_buffer_that_is_restored_waits_for_no_earlier_steps():
    buffer = ReplayBuffer(10, observation_size=3, action_size=2, n_step=3)
    saved = {name: column.copy() for name, column in buffer.state().items()}
    add(buffer, 1)
    add(buffer, 2)
    buffer.load_state(saved)
    for number in (7, 8, 10):
        add(buffer, number)
    assert len(buffer) == 1
    assert buffer.sample(1, np.random.default_rng(0)).rewards == 7.5 + 8.5 + 10.5
