"""The log of an agent's measurements: what became of neurons that were reset."""

import pytest

import neuroactivity as na
from neuroactivity.report import GroupActivity
from reference_agents.activity import ActivityLog, Lasting, alive_share, wrapper_options
from reference_agents.config import Config

LAYOUT = na.Layout([na.dense("fc", weight=("w", "neuron in"))])


def report(reset, again):
    group = GroupActivity("fc", neurons=8, inactive=again or 0, reset=reset, reset_again=again)
    return na.ActivityReport(tau=0.0, groups=(group,))


def test_neurons_count_at_the_measurement_after_their_reset_and_no_other():
    lasting = Lasting()
    for reset, again in ((4, 0), (0, 3), (2, 3), (5, 1)):
        lasting = lasting.plus(report(reset, again))
    assert lasting == (4 + 2, 3 + 1, 5)
    assert alive_share(lasting.measured_again, lasting.reset_again) == pytest.approx(1 / 3)
    assert alive_share(0, 0) is None


def test_the_log_keeps_them_by_network_and_in_its_state():
    log = ActivityLog()
    handle = log.report_handler("inactive", "critic", LAYOUT)
    handle(report(4, None))
    handle(report(1, 2))
    assert log.lasting() == {"critic": (4, 2, 1)}
    again = ActivityLog()
    again.report_handler("inactive", "critic", LAYOUT)
    again.load_state(log.state())
    assert again.lasting() == log.lasting()


def test_a_state_of_an_earlier_version_counts_from_now_on():
    log = ActivityLog()
    log.report_handler("inactive", "critic", LAYOUT)
    state = log.state()
    del state["lasting"]
    log.load_state(state)
    assert log.lasting() == {"critic": (0, 0, 0)}


def test_every_wrapper_gets_the_options_of_the_run():
    config = Config(reset="redo", batches=4, clock="run", outgoing="small")
    for options in wrapper_options(config, "critic"):
        assert {"batches": 4, "clock": "run", "outgoing": "small"}.items() <= options.arguments.items()
