"""``import neuroactivity`` loads no framework and not even NumPy; and the proof that this check can fail."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import neuroactivity

HEAVY = {"numpy", "torch", "jax", "jaxlib", "tensorflow", "keras", "flax", "optax", "scipy", "matplotlib", "cupy"}
PACKAGE = Path(neuroactivity.__file__).parent
ALLOWED = {"arrays": {"tensorflow"}, "plotting": {"matplotlib", "numpy"}, "looking": {"rich"}}
"""What a module may import beyond the standard library and array-api-compat."""


def loaded_by(*modules, cwd=None):
    """The heavy packages that a fresh interpreter has loaded after importing the modules."""
    code = (
        f"import {', '.join(modules)}, sys; print(*sorted({set(HEAVY)} & {{m.partition('.')[0] for m in sys.modules}}))"
    )
    path = [str(cwd or ""), str(PACKAGE.parent)]
    setup = f"import sys; sys.path[:0] = {path}; "
    result = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, check=True)
    return result.stdout.split()


def imports_of(path):
    """The packages that a source file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else node.module.partition(".")[0])
    return names


def forbidden_in(path, extra=frozenset()):
    return imports_of(path) - set(sys.stdlib_module_names) - {"neuroactivity", "array_api_compat"} - extra


def test_importing_the_core_loads_no_array_library_and_no_framework():
    assert loaded_by("neuroactivity") == []


@pytest.mark.parametrize("source", ["import numpy", "from numpy import linalg", "import neuroactivity, ml_dtypes"])
def test_that_check_can_fail(source, tmp_path):
    """The same check on a module that does import NumPy, in three ways, finds it."""
    (tmp_path / "guilty.py").write_text(source + "\n")
    assert loaded_by("guilty", cwd=tmp_path) == ["numpy"]


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_of_the_core_imports_the_standard_library_and_array_api_compat(path):
    extra = ALLOWED.get(path.relative_to(PACKAGE).parts[0], frozenset())
    assert forbidden_in(path, extra) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import numpy as np", {"numpy"}),
        ("def f():\n    from torch.nn import functional", {"torch"}),
        ("if True:\n    import os, jax.numpy", {"jax"}),
        ("from . import layout", {"."}),
        ("import math\nfrom neuroactivity import layout\nimport array_api_compat.torch", set()),
    ],
)
def test_that_scan_can_fail(source, found, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert forbidden_in(path) == found


def test_the_public_names_are_there():
    """What the package promises, it has; nothing private slips into it."""
    assert sorted(neuroactivity.__all__) == neuroactivity.__all__
    assert all(hasattr(neuroactivity, name) for name in neuroactivity.__all__)
    assert set(neuroactivity.__all__) >= {
        "ActivityReport", "ActivityWarning", "Layout", "LayoutError", "NeuronGroup", "ParamView", "attention", "conv",
        "dense", "grama", "norm", "recurrent", "reset", "reset_masks", "reset_moments", "residual", "stacked",
        "summarize", "tau_dormant",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["analysis", "discovery", "looking", "plotting", "testing"])
def test_a_subpackage_is_loaded_on_first_use(name):
    code = f"import neuroactivity as na, sys; before = 'neuroactivity.{name}' in sys.modules; na.{name}; print(before)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert result.stdout == "False\n"
    assert name in dir(neuroactivity)


def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'neuroactivity' has no attribute 'gramma'$"):
        _ = neuroactivity.gramma
