"""The ranges that pyproject.toml gives begin with the releases that `make test-oldest` tests."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pinned(file):
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def numbers(version):
    return tuple(map(int, version.split(".")))


def test_ranges_begin_with_what_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    given = [*project["dependencies"], *extras["torch"], *extras["jax"], *extras["tensorflow"], *extras["test"]]
    oldest = pinned("constraints-oldest.txt")
    oldest["tensorflow"] = oldest["tensorflow-cpu"]
    begins = dict(re.findall(r"([\w-]+)>=([\d.]+)", " ".join(given)))
    checked = begins.keys() & oldest.keys()
    assert {"torch", "jax", "optax", "tensorflow", "keras", "numpy", "array-api-compat"} <= checked
    for name in checked:
        length = len(numbers(begins[name]))
        assert numbers(oldest[name])[:length] == numbers(begins[name]), name
        assert not any(numbers(oldest[name])[length:]) or name == "ml-dtypes", name


def test_what_is_tested_every_day_lies_within_the_ranges():
    oldest, exact = pinned("constraints-oldest.txt"), pinned("constraints.txt")
    for name in oldest.keys() & exact.keys():
        assert numbers(oldest[name]) <= numbers(exact[name]), name
