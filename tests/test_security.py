"""What docs/security.md promises of the code: nothing is unpickled, nothing is executed, no shell is asked."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("neuroactivity", "adapters", "reference_agents", "benchmarks", "examples")
           for path in sorted((ROOT / folder).rglob("*.py"))]  # fmt: skip
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "xml"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pd.read_pickle", "keras.models.load_model"}


def called(node):
    """The dotted name of what is called."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([*([node.id] if isinstance(node, ast.Name) else []), *reversed(parts)])


def unsafe(source):
    """Yield what a source does that could run what a file says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from [f"import {name}" for name in names if name.split(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        name, options = called(node.func), {key.arg: getattr(key.value, "value", ...) for key in node.keywords}
        if name in CALLS:
            yield name
        if name.endswith("torch.load") and options.get("weights_only") is not True:
            yield "torch.load without weights_only=True"
        if name in ("np.load", "numpy.load") and options.get("allow_pickle") is not False:
            yield "np.load without allow_pickle=False"
        if options.get("shell", False) is not False:
            yield "a shell"
        if options.get("allow_pickle", False) is not False or options.get("safe_mode", True) is not True:
            yield "a file that may hold code"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_what_a_file_says(path):
    assert not list(unsafe(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from yaml import load", "eval('1')", "torch.load(f)", "torch.load(f, weights_only=False)",
     "np.load(f)", "np.load(f, allow_pickle=True)", "subprocess.run(c, shell=True)", "load(f, safe_mode=False)"],
)  # fmt: skip
def test_the_search_finds(source):
    assert list(unsafe(source))


def test_json_is_read_in_one_place_only():
    """Which bounds its size and refuses a name twice; what a framework's file holds is read by its adapter."""
    reads = {str(path.relative_to(ROOT)) for path in SOURCES if "json.load" in path.read_text(encoding="utf-8")}
    assert reads == {
        "neuroactivity/looking/reading.py",
        "neuroactivity/looking/writing.py",  # whether the last line of a file is whole, and an example
        "adapters/neuroactivity_tensorflow/saving.py",
        "reference_agents/jax/learning.py",
        "reference_agents/tensorflow/learning.py",
    }
