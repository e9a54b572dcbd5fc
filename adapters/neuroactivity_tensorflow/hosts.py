"""Run the user's Python functions at run time, inside ``tf.function`` through ``tf.py_function``."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

__all__ = ["in_one_place", "kept_generators", "on_host"]


def on_host(
    function: Callable[..., Sequence[Any]], inputs: Sequence[Any], specs: Sequence[tf.TensorSpec], *, what: str
) -> list[Any]:
    """Call a Python function with the values of tensors, each time that this place of a program is reached.

    Args:
        function: From tensors with values to a tensor for each of ``specs``.
        inputs: What it is called with; it runs after these have been computed.
        specs: Shapes and dtypes of what it returns.
        what: The user's name for it.

    Raises:
        ValueError: Inside a function that XLA compiles, which cannot call Python.
    """
    if tf.executing_eagerly():
        return list(function(*inputs))
    if GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise ValueError(
            f"{what} is a Python function, which code compiled by XLA cannot call; give jit_compile=False to "
            "model.compile (whose default is XLA where there is an accelerator) or to tf.function"
        )
    results = tf.py_function(function, inputs, [spec.dtype for spec in specs])
    for result, spec in zip(results if specs else (), specs, strict=True):
        result.set_shape(spec.shape)
    return list(results) if specs else []


def in_one_place(function: Callable[[Any, Callable[[Any], Any]], None], values: Any) -> None:
    """Call a function once for all replicas of a distribution strategy, where what it assigns reaches each of them.

    Args:
        function: Called with the values and with a function that adds up what the replicas have of one of them.
        values: Tensors by name, ``None`` where there is none.
    """
    context = tf.distribute.get_replica_context()
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        function(values, lambda value: value)
    elif context is None:
        raise ValueError("apply() must be called in a replica context, inside strategy.run()")
    else:

        def merged(strategy: Any, values: Any) -> None:
            def gathered(value: Any) -> Any:
                return None if value is None else strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

            function(values, gathered)

        context.merge_call(merged, args=(values,))


@contextmanager
def kept_generators(key: int | None = None) -> Iterator[None]:
    """Put Python's and NumPy's global generators back as they were, and seed them in between if a key is given.

    Keras takes the seeds of initialisers and generators that have none from Python's.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        if key is not None:
            random.seed(key)
            np.random.seed(key % 2**32)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
