"""What a training step needs besides TensorFlow's operations: Python on the host, replicas, random generators."""

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from neuroactivity.arrays import no_autograph


def on_host(
    function: Callable[..., Sequence[Any]], inputs: Sequence[Any], specs: Sequence[tf.TensorSpec], *, what: str
) -> list[Any]:
    """Call a Python function at run time, inside ``tf.function`` through ``tf.py_function``.

    Args:
        function: Maps eager tensors to one tensor for each of ``specs``.
        inputs: The tensors that it is called with; it runs after they have been computed.
        specs: Shapes and dtypes of the results.
        what: The name of the user's option, for the error.

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
    dtypes = [spec.dtype for spec in specs]
    results = _turn().execute(lambda: tf.py_function(function, inputs, dtypes), exclusive_resource_access=False)
    for result, spec in zip(results if specs else (), specs, strict=True):
        result.set_shape(spec.shape)
    return list(results) if specs else []


def check_threads(what: str) -> None:
    """Raise inside ``tf.function`` if TensorFlow has a single inter-op thread: Python would hold it and wait for it.

    Raises:
        ValueError: If there is one.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not tf.executing_eagerly() and (tf.config.threading.get_inter_op_parallelism_threads() or own) == 1:
        raise ValueError(
            f"{what}: in tf.function TensorFlow would wait for its only inter-op thread for ever; call "
            "tf.config.threading.set_inter_op_parallelism_threads(2) before anything is computed"
        )


@cache
def _turn() -> tf.CriticalSection:
    """Let host calls take turns, and wait without a thread: each holds one of TensorFlow's, and needs another one."""
    return tf.CriticalSection(name="neuroactivity_on_host")


def apart(branch: Callable[[], None]) -> Callable[[], Any]:
    """Make a branch of ``tf.cond`` that is seldom taken one node of the graph: dead nodes cost time, too."""
    if tf.executing_eagerly() or GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return branch
    called: Callable[[], Any] = tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})
    return called


def number_of_replicas() -> int:
    """Return how many replicas take the same step."""
    number: int = tf.distribute.get_strategy().num_replicas_in_sync
    return number


def merge_replicas(function: Callable[[Any, Callable[[Any], Any]], None], values: Any) -> None:
    """Call a function once for all replicas of a distribution strategy; its assignments reach every replica.

    Args:
        function: Called with the values and with a function that sums one of them over the replicas.
        values: Tensors by name, ``None`` where there is none.
    """
    context = tf.distribute.get_replica_context()
    if number_of_replicas() == 1:
        function(values, lambda value: value)
    elif context is None:
        raise ValueError("apply() must be called in a replica context, inside strategy.run()")
    else:

        @no_autograph
        def merged(strategy: Any, values: Any) -> None:
            def summed(value: Any) -> Any:
                return None if value is None else strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

            function(values, summed)

        context.merge_call(merged, args=(values,))


def check_one_strategy(optimizers: Iterable[Any], variables: Iterable[Any]) -> None:
    """Raise unless optimizers and variables were made in the scope of the same distribution strategy.

    Raises:
        ValueError: If they were not; TensorFlow would say so in the first step, in other words.
    """
    held = [_strategy(variable, "distribute_strategy") for variable in variables]
    held += [_strategy(optimizer, "_distribution_strategy") for optimizer in optimizers]
    if others := [strategy for strategy in held if strategy is not held[0]]:
        raise ValueError(
            f"strategy: expected the model, the optimizer and this wrapper to be made under the same, got "
            f"{_name(held[0])} and {_name(others[0])}; make all of them in one strategy.scope()"
        )


def check_scope(optimizer: Any) -> None:
    """Raise if an optimizer makes a step on replicas of another strategy than that in whose scope it was made."""
    made, current = _strategy(optimizer, "_distribution_strategy"), tf.distribute.get_strategy()
    if current.num_replicas_in_sync > 1 and current is not made:
        raise ValueError(
            f"strategy: this wrapper was made under {_name(made)} and makes a step under {_name(current)}; make the "
            "model, the optimizer and the wrapper in its strategy.scope()"
        )


def _strategy(holder: Any, name: str) -> Any:
    """Return a distribution strategy; ``None`` for one of a single replica, which is as good as none."""
    strategy = getattr(holder, name, None)
    return None if strategy is None or strategy.num_replicas_in_sync == 1 else strategy


def _name(strategy: Any) -> str:
    return type(strategy).__name__ if strategy else "none"


@contextmanager
def kept_generators(key: int | None = None) -> Iterator[None]:
    """Restore Python's and NumPy's global generators afterwards, and seed them inside if a key is given.

    Keras takes the seeds of unseeded initialisers and generators from Python's.
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


@contextmanager
def run_plainly() -> Iterator[None]:
    """Let what is a ``tf.function`` run as plain Python, so that what its layers do can be seen."""
    kept = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(kept)
