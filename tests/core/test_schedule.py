"""When a measurement is due, and the keys of random draws."""

import itertools

import numpy as np
import pytest

from neuroactivity.schedule import draw_key, interval, is_due


def test_due_at_every_multiple_counted_from_one():
    assert [step for step in range(1, 10) if is_due(step, every=3)] == [3, 6, 9]
    assert all(is_due(step, every=1) for step in range(1, 5))


@pytest.mark.parametrize("every", [250, np.int64(250), np.array(250)])
def test_an_interval_is_any_whole_number(every):
    assert type(interval(every)) is int
    assert interval(every) == 250


@pytest.mark.parametrize("every", [0, -1, np.int32(0), 250.0, "250", None, np.array([250, 250])])
def test_an_interval_is_nothing_else(every):
    with pytest.raises(ValueError, match="every: expected a whole number of steps of 1 or more, got"):
        interval(every)


def test_keys_are_the_same_in_every_process():
    """Fixed numbers: a resumed run draws what the first would have drawn, on any machine, in any version."""
    assert draw_key(0, 1, "fc1.weight") == 4546674580558723725
    assert draw_key(7, 2000, "critics/h/kernel") == 2725025648817434689


def test_keys_differ_by_seed_event_and_name():
    """Fault 13: seeded by the step alone, same-shaped layers of two optimizers drew identical values."""
    triples = list(itertools.product(range(10), range(10), ("a", "b", "1", "a/1", "/")))
    keys = [draw_key(*triple) for triple in triples]
    assert len(set(keys)) == len(triples)
    assert all(0 <= key < 2**63 for key in keys)


def test_keys_do_not_run_into_each_other():
    """Seed 1 with event 11 is not seed 11 with event 1; a name may hold any text."""
    assert len({draw_key(1, 11, "w"), draw_key(11, 1, "w"), draw_key(1, 1, "1/w"), draw_key(1, 1, "1w")}) == 4
    assert draw_key(-1, 0, "Gewicht/ß") != draw_key(1, 0, "Gewicht/ß")
