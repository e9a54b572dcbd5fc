"""The benchmark of a host's callback compares within a round."""

from benchmarks.hosts import KINDS, ratios


def test_ratios_are_taken_within_a_round_and_every_other_round_is_reversed():
    asked = []

    def measure(options):
        asked.append(options)
        return 2.0 * len(asked) if options is None else 3.0 * len(asked)

    found = ratios(2, measure)
    assert asked == [*KINDS.values(), *reversed(KINDS.values())]
    assert found["without"] == 1.0
    assert found["measuring every 100 updates"] == (3 * 2 / (2 * 1) + 3 * 5 / (2 * 6)) / 2
