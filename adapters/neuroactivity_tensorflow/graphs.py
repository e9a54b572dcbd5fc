"""What a training step needs besides TensorFlow's operations: Python on the host, replicas, random generators."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext


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
    results = tf.py_function(function, inputs, [spec.dtype for spec in specs])
    for result, spec in zip(results if specs else (), specs, strict=True):
        result.set_shape(spec.shape)
    return list(results) if specs else []


def apart(branch: Callable[[], None]) -> Callable[[], Any]:
    """Make a branch of ``tf.cond`` that is seldom taken one node of the graph: dead nodes cost time, too."""
    if tf.executing_eagerly() or GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return branch
    called: Callable[[], Any] = tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})
    return called


def merge_replicas(function: Callable[[Any, Callable[[Any], Any]], None], values: Any) -> None:
    """Call a function once for all replicas of a distribution strategy; its assignments reach every replica.

    Args:
        function: Called with the values and with a function that sums one of them over the replicas.
        values: Tensors by name, ``None`` where there is none.
    """
    context = tf.distribute.get_replica_context()
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        function(values, lambda value: value)
    elif context is None:
        raise ValueError("apply() must be called in a replica context, inside strategy.run()")
    else:

        def merged(strategy: Any, values: Any) -> None:
            def summed(value: Any) -> Any:
                return None if value is None else strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

            function(values, summed)

        context.merge_call(merged, args=(values,))


def check_one_strategy(optimizers: Iterable[Any], variables: Iterable[Any]) -> None:
    """Raise unless optimizers and variables were made in the scope of the same distribution strategy.

    A strategy of one replica is as good as none.

    Raises:
        ValueError: If they were not; TensorFlow would say so in the first step, in other words.
    """
    held = [("model", getattr(variable, "distribute_strategy", None)) for variable in variables]
    held += [("optimizer", getattr(optimizer, "_distribution_strategy", None)) for optimizer in optimizers]
    several = [(what, None if of is None or of.num_replicas_in_sync == 1 else of) for what, of in held]
    for what, strategy in several:
        if strategy is not several[0][1]:
            names = [type(of).__name__ if of else "no strategy" for of in (several[0][1], strategy)]
            raise ValueError(
                f"{what}: expected all of it to be made under {names[0]}, like the model's first variable, got "
                f"{names[1]}; make the model, the optimizer and this wrapper in one strategy.scope()"
            )


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
