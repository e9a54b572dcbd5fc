"""The package itself: what importing it loads, and which backend it needs."""

import subprocess
import sys


def run(code: str, backend: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter on a backend of Keras."""
    setup = f"import os, sys; sys.path[:0] = {sys.path!r}; os.environ['KERAS_BACKEND'] = {backend!r}\n"
    return subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True)


def test_importing_the_adapter_loads_no_framework_that_keras_does_not():
    loaded = "{m.partition('.')[0] for m in sys.modules} & {'torch', 'jax', 'flax', 'optax', 'scipy'}"
    code = f"import keras, tensorflow; old = {loaded}; import neuroactivity_tensorflow; print('more:', *{loaded} - old)"
    can_fail = f"import optax; print('more:', *{loaded} - old)"
    assert run(f"{code}; {can_fail}", "tensorflow").stdout == "more:\nmore: optax\n"


def test_keras_on_another_backend_is_refused_at_import():
    message = (
        "ImportError: neuroactivity_tensorflow needs Keras on TensorFlow, got the backend 'jax': set KERAS_BACKEND="
    )
    assert message in run("import neuroactivity_tensorflow", "jax").stderr
