"""The draws of a large model are few, made when they are asked for, and cut from one pool of normal numbers."""

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.discovery import draws as sampling
from neuroactivity.discovery.draws import make_draws
from neuroactivity.discovery.values import FreshDraws


def normal(like, key: int):
    return np.random.default_rng(key).standard_normal(like.shape).astype(like.dtype)


LAYOUT = na.Layout([na.dense("d", weight=("w", "neuron in"), bias="b")])
PARAMS = {"w": np.zeros((90, 100), "float32"), "b": np.zeros(90, "float32")}


def test_a_small_model_has_all_its_draws_at_once():
    found = make_draws(PARAMS, LAYOUT, normal, seed=0)
    assert isinstance(found, list)
    assert len(found) == 16


def test_a_large_model_has_one_at_a_time(monkeypatch):
    monkeypatch.setattr(sampling, "_LARGE", 1000)
    found = make_draws(PARAMS, LAYOUT, normal, seed=0)
    assert isinstance(found, FreshDraws)
    assert len(found) == 8
    assert all(np.array_equal(found[3][name], found[3][name]) for name in PARAMS)
    assert not np.array_equal(found[3]["w"], found[4]["w"])
    assert found[0]["w"] is not found[0]["w"]
    assert [len(found[1:3]), found[-1]["w"].shape] == [2, (90, 100)]
    with pytest.raises(IndexError):
        found[8]


def test_weights_of_a_large_model_are_drawn_into_memory_that_is_there(monkeypatch):
    monkeypatch.setattr(sampling, "_LARGE", 1000)
    found, memory = make_draws(PARAMS, LAYOUT, normal, seed=0), np.zeros((90, 100), "float32")
    assert isinstance(found, FreshDraws)
    assert found.sample(3, "w", memory) is memory
    assert np.array_equal(memory, found[3]["w"])


def test_large_arrays_are_normal_and_repeat_nothing(monkeypatch):
    monkeypatch.setattr(sampling, "_LARGE", 1000)
    monkeypatch.setattr(sampling, "_POOL", 2**12 + 1)  # several pieces an array
    weights = make_draws(PARAMS, LAYOUT, normal, seed=0)[0]["w"]
    assert weights.dtype == np.float32
    assert weights.std() == pytest.approx(0.1, rel=0.05)
    assert np.abs(np.corrcoef(weights) - np.eye(90)).max() < 0.9
    assert np.linalg.matrix_rank(weights) == 90
