"""Count what compiled training steps send between eight devices.

A program that test_devices.py runs; its arguments choose the sharding, the mesh and the wrapper.
"""

import itertools
import math
import re
import sys

import jax
import optax

from neuroactivity_jax import regrama
from tests.adapters.jax.devices.cells import BATCHES, LAYOUT, initial, sharded_setup, stepper

OPERATIONS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
NEURONS = 24 + 16
DRAWN = 8 * 16 + 16 * 24
"""Entries of the parameters that a snapshot holds."""
YOUNG = 100
"""Resets that may be young at once, of which each device says which it has none of."""


def collectives(program):
    """Return the shapes of what each operation sends, of the step itself and of what is behind conditions."""
    always, sometimes = [], []
    for part in re.split(r"\n(?=(?:ENTRY )?%?[\w.\-]+ \([^\n]*\{\n)", program):
        for results in re.findall(rf" = (.*?) (?:{OPERATIONS})(?:-start)?\(", part):
            shapes = [tuple(map(int, filter(None, s.split(",")))) for s in re.findall(r"\[([\d,]*)\]", results)]
            (always if part.startswith("ENTRY") else sometimes).append(sorted(shapes))
    return always, sometimes


def compiled(name, tx, *, explicit):
    mesh, params, put, options = sharded_setup(name, explicit)
    with jax.set_mesh(mesh):
        state, (x, y) = tx.init(params), map(put, BATCHES[0])
        return jax.jit(stepper(tx, "regrama", **options)).lower(params, state, x, y).compile().as_text()


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        kind, name, wrapper = argument.split()
        inner = optax.adam(1e-2)
        options = {"measuring": {"max_fraction": 0}, "resetting": {"initializer": initial}}.get(wrapper, {})
        plain, _ = collectives(compiled(name, inner, explicit=kind == "explicit"))
        tx = regrama(inner, LAYOUT, **options)
        always, sometimes = collectives(compiled(name, tx, explicit=kind == "explicit"))
        assert plain
        assert always == plain, (argument, always, plain)
        assert sometimes or name == "data", argument
        vectors, matrices = ([s for s in itertools.chain(*sometimes) if (len(s) > 1) == deep] for deep in (False, True))
        assert max(map(math.prod, vectors), default=0) <= NEURONS + 2 * YOUNG, (argument, sometimes)
        assert sum(map(math.prod, matrices)) <= (DRAWN if wrapper == "snapshot" else 0), (argument, sometimes)
    print(len(sys.argv) - 1, "programs send little")
