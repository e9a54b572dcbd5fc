"""The array libraries that every metric is tested on, behind one small interface."""

import contextlib
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import array_api_strict
import jax
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import torch
from packaging.version import Version

from tests.adapters.jax.releases import enable_x64


@dataclass(frozen=True)
class Backend:
    """One array library, and one way to run a function on its arrays."""

    name: str
    module: str
    dtypes: tuple[str, ...]  # widest last

    def dtype(self, name: str) -> Any:
        """The library's dtype of that name."""
        if name == "bfloat16" and self.module == "numpy":
            return np.dtype(ml_dtypes.bfloat16)
        return getattr(importlib.import_module(self.module), name)

    def asarray(self, values: Any, dtype: str | None = None) -> Any:
        """An array of the library with its own memory, from anything NumPy understands; floats in the widest dtype."""
        values = np.array(values)
        dtype = dtype or (self.dtypes[-1] if values.dtype.kind == "f" else str(values.dtype))
        if self.module == "numpy":
            array = values.astype(self.dtype(dtype))
            array.flags.writeable = self.name != "numpy read-only"
            return array
        if self.module == "tensorflow":
            return tf.constant(values, self.dtype(dtype))
        return importlib.import_module(self.module).asarray(values, dtype=self.dtype(dtype))

    def arrays(self, values: Mapping[str, Any], dtype: str | None = None) -> dict[str, Any]:
        """The same for a mapping. None stays None."""
        return {name: None if value is None else self.asarray(value, dtype) for name, value in values.items()}

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function the backend's way: compiled as a whole, or one operation after the other."""
        return COMPILERS.get(self.name, lambda function: function)(function)(*args)

    @contextlib.contextmanager
    def active(self):
        """The mode of the library in which the backend's tests run."""
        with contextlib.ExitStack() as stack:
            if self.name.startswith("jax float64"):
                stack.enter_context(enable_x64(True))
            if self.name == "torch compile":
                torch.compiler.reset()  # one function is compiled a few times only
            if self.module == "array_api_strict":
                flags = {"boolean_indexing": False, "data_dependent_shapes": False}
                stack.enter_context(array_api_strict.ArrayAPIStrictFlags(**flags))
            yield


def to_numpy(array: Any) -> np.ndarray:
    """An array's values, exactly: bool or float64."""
    if isinstance(array, torch.Tensor):
        array = array.double() if array.is_floating_point() else array
    array = np.asarray(array)
    return array if array.dtype == bool else array.astype(np.float64)


def dtype_name(array: Any) -> str:
    """``"float32"``, whatever the library calls it."""
    return array.dtype.name if tf.is_tensor(array) else str(array.dtype).rpartition(".")[-1]


COMPILERS = {
    "torch compile": functools.partial(torch.compile, fullgraph=True, backend="eager", dynamic=False),
    "jax jit": jax.jit,
    "jax float64": jax.jit,
    "tensorflow graph": tf.function,
    "tensorflow XLA": functools.partial(tf.function, jit_compile=True),
}
LOW = ("float16", "bfloat16")
BACKENDS = (
    Backend("numpy", "numpy", (*LOW, "float32", "float64")),
    Backend("numpy read-only", "numpy", (*LOW, "float32", "float64")),
    Backend("array-api-strict", "array_api_strict", ("float32", "float64")),
    Backend("torch", "torch", (*LOW, "float32", "float64")),
    Backend("jax", "jax.numpy", (*LOW, "float32")),
    Backend("jax jit", "jax.numpy", (*LOW, "float32")),
    Backend("jax float64", "jax.numpy", ("float64",)),
    Backend("tensorflow", "tensorflow", (*LOW, "float32", "float64")),
)
COMPILED = (
    Backend("torch compile", "torch", (*LOW, "float32", "float64")),
    Backend("jax float64 eager", "jax.numpy", ("float64",)),
    Backend("tensorflow graph", "tensorflow", (*LOW, "float32", "float64")),
    Backend("tensorflow XLA", "tensorflow", (*LOW, "float32", "float64")),
)
"""Further ways to run, which take long to compile: for the matrix, not for every test."""
traced_by_torch = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.9"),
    reason="torch.compile cannot trace all of the core before PyTorch 2.9",
)
EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52}
ACCUMULATED = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}
