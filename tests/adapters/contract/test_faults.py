"""Each fault of the table has the outcome that is documented, in each framework in which it can happen."""

from pathlib import Path

import pytest

from tests.adapters.contract import faults_jax, faults_tensorflow, faults_torch
from tests.adapters.contract.faults import FAULTS, FRAMEWORKS, OUTCOMES, page

SCENARIOS = {
    "torch": faults_torch.SCENARIOS,
    "jax": faults_jax.SCENARIOS,
    "tensorflow": faults_tensorflow.SCENARIOS,
}
CASES = {
    f"{framework}-{fault.name}": (framework, fault)
    for framework in FRAMEWORKS
    for fault in FAULTS
    if getattr(fault, framework) in OUTCOMES
}


@pytest.mark.sampled(90)
@pytest.mark.counts(faults=1)
@pytest.mark.filterwarnings("ignore:.*resets do not last", "ignore:Gradients do not exist", "ignore:neurons could not")
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of Keras's quantised variables
@pytest.mark.parametrize(("framework", "fault"), CASES.values(), ids=CASES)
def test_a_fault_has_the_outcome_that_is_documented(framework, fault):
    assert SCENARIOS[framework][fault.name]() == getattr(fault, framework)


def test_what_does_not_exist_in_a_framework_has_a_reason():
    others = [getattr(fault, name) for fault in FAULTS for name in FRAMEWORKS if getattr(fault, name) not in OUTCOMES]
    assert others
    assert all(other.startswith("none: ") for other in others)


def test_there_are_as_many_faults_as_the_page_says():
    assert len(FAULTS) == len({fault.name for fault in FAULTS}) >= 30
    assert all(sum(framework == name for framework, _ in CASES.values()) >= 30 for name in FRAMEWORKS)


def test_the_page_shows_this_table():
    shown = (Path(__file__).parents[3] / "docs/faults.md").read_text(encoding="utf-8")
    assert page() in shown, f"expected the tables of the page to be\n\n{page()}"
