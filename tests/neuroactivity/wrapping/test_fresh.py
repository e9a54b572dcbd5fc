"""The keys of random draws."""

import itertools

from neuroactivity.wrapping import derive_key


def test_keys_are_the_same_in_every_process():
    """Fixed numbers: a resumed run draws what the first would have drawn, on any machine, in any version."""
    assert derive_key(0, 1, "fc1.weight") == 4546674580558723725
    assert derive_key(7, 2000, "critics/h/kernel") == 2725025648817434689


def test_keys_differ_by_seed_event_and_name():
    """Fault 13: seeded by the step alone, same-shaped layers of two optimizers drew identical values."""
    triples = list(itertools.product(range(10), range(10), ("a", "b", "1", "a/1", "/")))
    keys = [derive_key(*triple) for triple in triples]
    assert len(set(keys)) == len(triples)
    assert all(0 <= key < 2**63 for key in keys)


def test_keys_do_not_run_into_each_other():
    """Seed 1 with event 11 is not seed 11 with event 1; a name may hold any text."""
    assert len({derive_key(1, 11, "w"), derive_key(11, 1, "w"), derive_key(1, 1, "1/w"), derive_key(1, 1, "1w")}) == 4
    assert derive_key(-1, 0, "Gewicht/ß") != derive_key(1, 0, "Gewicht/ß")
