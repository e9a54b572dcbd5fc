"""The estimate of the entropy of DACER's policy, against distributions whose entropy is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from reference_agents.jax.entropy import VARIANCE_FLOOR, entropy, fit
from tests.reference_agents.jax.dacer_cases import normal

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
    theirs = GaussianMixture(3, random_state=0, reg_covar=VARIANCE_FLOOR).fit(np.asarray(samples, np.float64))
    ours = jax.jit(fit)(samples)
    assert estimate(samples) == pytest.approx(-theirs.score(samples), abs=0.02)
    order, expected = np.argsort(ours.means[:, 0]), np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(ours.weights[order], theirs.weights_[expected], atol=0.01)
    np.testing.assert_allclose(ours.means[order], theirs.means_[expected], atol=0.05)
    np.testing.assert_allclose(ours.covariances[order], theirs.covariances_[expected], atol=0.1)


def test_the_entropy_grows_with_the_logarithm_of_the_scale_and_not_with_the_place():
    samples, _ = gaussian(0, 2, 200)
    assert float(estimate(3 * samples + 5) - estimate(samples)) == pytest.approx(2 * math.log(3), abs=0.02)


@pytest.mark.slow
def test_the_entropy_of_actions_at_their_bounds_is_finite_and_low():
    point = math.log(2 * math.pi * VARIANCE_FLOOR) / 2  # in one dimension, no more than what is added
    assert estimate(jnp.full((200, 2), 0.7)) == pytest.approx(2 * point, rel=1e-3)
    assert estimate(jnp.sign(normal(0, 200, 1))) == pytest.approx(math.log(2) + point, abs=0.02)
    corners = jnp.sign(normal(0, 200, 21))
    assert jnp.isfinite(estimate(corners))
    assert jnp.isfinite(estimate(corners * jnp.eye(1, 21)))  # all on a line
