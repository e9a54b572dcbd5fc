"""What a saved state calls a user's score."""

import functools

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.wrapping import check_host_options, check_same_score, name_of_score


class Scorer:
    def __call__(self, grads, layout):
        return na.grama(grads, layout)


def scorer(grads, layout, power=1):
    return {name: score**power for name, score in na.grama(grads, layout).items()}


@pytest.mark.parametrize(
    ("score", "name"),
    [
        (None, ""),
        (na.grama, "neuroactivity.metrics.grama"),
        (scorer, f"{__name__}.scorer"),
        (functools.partial(scorer, power=2), f"{__name__}.scorer"),
        (Scorer(), f"{__name__}.Scorer"),
    ],
)
def test_a_score_is_named_by_its_function_or_class(score, name):
    assert name_of_score(score) == name
    check_same_score(name, name_of_score(score))


def test_another_score_is_refused_by_both_names():
    with pytest.raises(ValueError, match=r"^state: expected neurons scored by 'a.b', got the wrapper's own"):
        check_same_score("", "a.b")
    with pytest.raises(ValueError, match=r"scored by the wrapper's own score, got array"):
        check_same_score(np.zeros(3), "")


def test_hosts_pass_a_score_on():
    assert check_host_options("redo", {"score": scorer}).score is scorer
    with pytest.raises(ValueError, match=r"^score: expected a function"):
        check_host_options("regrama", {"score": "grama"})
