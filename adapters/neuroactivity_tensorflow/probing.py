"""What a search asks of a model: gradients and outputs with other parameters, in inference and in training mode.

Keras models are called in a ``keras.StatelessScope``, so that values, statistics and seed generators stay as they are.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.discovery import GradientFunction
from neuroactivity.discovery.gradients import attributes
from neuroactivity.wrapping import derive_key
from neuroactivity_tensorflow.parameters import Model, dense_gradient, layers_of, tf_variable, variables_of

Apply: TypeAlias = Callable[..., Any]
Inputs: TypeAlias = tuple[Any, ...]

_SMALL = 0.1  # deviation of variables from what they are, so that none is zero
_NOISE = {  # what makes layers noisy in training mode
    keras.layers.Dropout: "rate",
    keras.layers.AlphaDropout: "rate",
    keras.layers.GaussianDropout: "rate",
    keras.layers.GaussianNoise: "stddev",
    keras.layers.SimpleRNNCell: "dropout",
    keras.layers.GRUCell: "dropout",
    keras.layers.LSTMCell: "dropout",
}


def gradient_function(
    model: Model, *example_inputs: Any, apply: Apply | None = None, readers: Sequence[Apply] = (), seed: int = 0
) -> GradientFunction:
    """Make the gradient function that discovery and :func:`neuroactivity.verify_layout` probe.

    All outputs are reduced by a fixed random projection: those in inference mode, and those in training mode where they
    differ. Dropout and noise layers are off, seeds stay as they are, and batch normalisations use a mean of zero and a
    variance of one, so that a silent neuron is silent behind them. The model's variables are not touched.

    Args:
        model: The model, or a mapping of names to ``tf.Variable``.
        example_inputs: Its inputs.
        apply: As for :func:`layout_of`.
        readers: As for :func:`layout_of`.
        seed: Seed of inputs and projection.

    Returns:
        A function from parameters by name, NumPy arrays or tensors, to gradients by name, NumPy arrays.
    """
    return Probe(model, example_inputs, apply=apply, readers=readers, seed=seed).gradients


class Probe:
    """A model that is called with other parameters than its own.

    Args:
        model: The model, or a mapping of names to ``tf.Variable``.
        inputs: What it is called with; floating-point values are replaced by noise.
        apply: What is called instead of it.
        readers: What else reads it, called with the same inputs.
        seed: Seed of inputs, projection and noise.
    """

    def __init__(
        self, model: Model, inputs: Inputs, *, apply: Apply | None, readers: Sequence[Apply], seed: int
    ) -> None:
        for reader in readers:
            if not callable(reader):
                raise na.LayoutError(
                    f"readers: expected models or functions that are called with the example inputs, got {reader!r}"
                )
        self._model, self._apply, self._seed = model, apply, seed
        self._readers, self._inputs = tuple(readers), _noisy_inputs(inputs, seed)
        build(model, self._inputs, apply)
        models = [one for one in (model, *self._readers) if isinstance(one, keras.Layer)]
        for one in models[1:]:
            build(one, self._inputs, None)
        self._variables = variables_of(model)
        self._layers = {id(layer): layer for one in models for layer in layers_of(one).values()}.values()
        self._fixed = [*self._standard_statistics(), *self._moved_readers(models)]
        self._calls = 2
        self._modes, self._repeatable = self._compare_modes()
        self._gradients = tf.function(self._gradients_of, autograph=False)
        self._outputs = tf.function(self._outputs_of, autograph=False)

    def gradients(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the gradients of the projection of all outputs, ``None`` where there is none."""
        values = self._values(params)
        with _swapped(self._model, values):
            grads = self._gradients(values)
        if not grads:
            raise na.LayoutError("the model cannot be probed: expected an output with a gradient; give layout=")
        return {name: grads[name].numpy() if name in grads else None for name in self._variables}

    def outputs(self, params: Mapping[str, Any]) -> list[Any]:
        """Return all outputs, chosen actions too, that are the same at every call."""
        values = self._values(params)
        with _swapped(self._model, values):
            outputs = self._outputs(values)
            low = [one.dtype.is_floating and one.dtype.size < 4 for one in outputs]
            return [
                (tf.cast(one, tf.float32) if is_low else one).numpy() for one, is_low in zip(outputs, low, strict=True)
            ]

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: tf.convert_to_tensor(params[name]) for name in self._variables}

    def _gradients_of(self, values: dict[str, Any]) -> dict[str, Any]:
        watched = dict(self._variables) if isinstance(self._model, Mapping) else values
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            outputs = [output for training in self._modes for output in self._call(values, training)]
            scalar = _project(outputs, self._seed)
        grads = tape.gradient(scalar, watched)
        return {name: dense_gradient(g, self._variables[name]) for name, g in grads.items() if g is not None}

    def _outputs_of(self, values: dict[str, Any]) -> list[Any]:
        outputs = [(self._call(values, mode, whole=True), places) for mode, places in self._repeatable.items()]
        return [found[i] for found, places in outputs for i in places]

    def _call(self, values: Mapping[str, Any], training: bool, *, whole: bool = False) -> list[Any]:
        """Call the model and its readers; a Keras model reads values in place of its variables, bare ones hold them.

        One that keeps something from one call for the next is called twice in a row. Returns all numbers if ``whole``.
        """
        bare = isinstance(self._model, Mapping)
        replaced = [*self._fixed, *((self._variables[name], value) for name, value in values.items() if not bare)]
        with keras.StatelessScope(replaced) if replaced or not bare else nullcontext(), ExitStack() as stack:
            for layer in self._layers if training else ():
                stack.enter_context(_without_noise(layer))
            results = []
            for _ in range(self._calls):
                results.append(call(self._model, self._inputs, self._apply, training=training))
                results += [call(reader, self._inputs, training=training) for reader in self._readers]
        return list(tensors_in(results, partial(_is_float, whole=whole)))

    def _standard_statistics(self) -> Iterator[tuple[Any, Any]]:
        """Give batch normalisations a mean of zero and a variance of one."""
        for layer in self._layers:
            if isinstance(layer, keras.layers.BatchNormalization) and layer.built:  # one that is never called is not
                yield layer.moving_mean, tf.zeros_like(layer.moving_mean)
                yield layer.moving_variance, tf.ones_like(layer.moving_variance)

    def _moved_readers(self, models: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Move the readers' own variables by a little noise, since a layer that is all zero reads nothing."""
        own = {id(variable) for variable in self._variables.values()}
        for i, model in enumerate(models):
            for name, variable in ({} if model is self._model else variables_of(model)).items():
                if id(variable) not in own:
                    yield variable, _moved(variable, derive_key(self._seed, i, f"reader/{name}"))

    def _compare_modes(self) -> tuple[tuple[bool, ...], dict[bool, list[int]]]:
        """Return in which modes outputs differ, and which outputs of these are the same at every call."""
        values = {name: _moved(v, derive_key(self._seed, 0, f"mode/{name}")) for name, v in self._variables.items()}
        with _swapped(self._model, values):
            first = {False: self._call(values, False)}
            try:
                first[True] = self._call(values, True)
            except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, tf.errors.OpError) as error:
                warnings.warn(
                    "the model cannot be called in training mode with these inputs, so what is read there alone is "
                    f"unknown: {' '.join(str(error).split())[:200]}",
                    na.ActivityWarning,
                    stacklevel=4,
                )
            modes = [mode for mode, outputs in first.items() if not mode or not _equal(outputs, first[False])]
            halves = [(one[: len(one) // 2], one[len(one) // 2 :]) for one in first.values()]
            if all(_equal(*pair) for pair in halves):
                self._calls, first = 1, {mode: half for mode, (half, _) in zip(first, halves, strict=True)}
            return tuple(modes), {mode: self._repeated(values, mode) for mode in modes}

    def _repeated(self, values: Mapping[str, Any], mode: bool) -> list[int]:
        """Return which outputs are the same at every call: sampled actions need not be."""
        calls = [self._call(values, mode, whole=True) for _ in range(4)]
        return [i for i, same in enumerate(zip(*calls, strict=False)) if all(_equal(same[:1], [one]) for one in same)]


@contextmanager
def _swapped(model: Model, values: Mapping[str, Any]) -> Iterator[None]:
    """Let bare variables hold other values inside a ``with`` block."""
    kept = {name: tf.identity(variable) for name, variable in model.items()} if isinstance(model, Mapping) else {}
    try:
        for name in kept:
            model[name].assign(values[name])
        yield
    finally:
        for name, value in kept.items():
            model[name].assign(value)


@contextmanager
def _without_noise(layer: Any) -> Iterator[None]:
    """Switch dropout and noise off, and let batch normalisations use their statistics, though they train."""
    changed: dict[str, Any] = {}
    for attribute in [attribute for kind, attribute in _NOISE.items() if isinstance(layer, kind)]:
        changed |= {name: 0.0 for name in (attribute, f"recurrent_{attribute}") if name in vars(layer)}
    if isinstance(layer, keras.layers.BatchNormalization):
        function = layer.call
        changed["call"] = lambda *args, **options: function(*args[:1], **{**options, "training": False})
    kept = {name: vars(layer)[name] for name in changed if name in vars(layer)}
    for name, value in changed.items():
        object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        for name in changed:
            if name in kept:
                object.__setattr__(layer, name, kept[name])
            else:
                object.__delattr__(layer, name)


def call(model: Any, inputs: Inputs, apply: Apply | None = None, *, training: bool = False) -> Any:
    """Call a model; the inputs of a functional model may be passed one by one."""
    function = model if apply is None else apply
    if isinstance(function, keras.Layer):
        if len(inputs) > 1 and len(getattr(function, "inputs", None) or ()) == len(inputs):
            inputs = (list(inputs),)
        return function(*inputs, training=training)
    try:
        moded = "training" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # not every function written in C has a signature
        moded = False
    return function(*inputs, training=training) if moded else function(*inputs)


def build(model: Model, inputs: Inputs, apply: Apply | None) -> None:
    """Call a model if it has layers that are not built yet: once, and once more for those that only training calls."""
    for name, value in model.items() if isinstance(model, Mapping) else ():
        if not hasattr(value, "assign"):
            raise na.LayoutError(f"{name!r}: expected a tf.Variable, got {type(value).__name__}")
    if isinstance(model, Mapping) and apply is None:
        raise na.LayoutError("apply: the function that computes with these variables is needed to find their layout")
    for training in (False, True):
        if isinstance(model, Mapping) or all(layer.built for layer in layers_of(model).values()):
            return
        kept = [(variable, tf.identity(tf_variable(variable))) for variable in model.variables]
        with nullcontext() if not training else suppress(Exception):  # it may need more than its inputs to train
            call(model, inputs, apply, training=training)
        for variable, value in kept:
            variable.assign(value)


def _project(outputs: Sequence[Any], seed: int) -> Any:
    """Reduce outputs to one number by fixed random weights."""
    total = tf.zeros((), tf.float64)
    for i, leaf in enumerate(outputs):
        wide = tf.cast(leaf, tf.float64)
        total += tf.reduce_sum(wide * standard_normal(wide, derive_key(seed, i, "projection")))
    return total


def _is_float(tensor: Any, whole: bool = False) -> bool:
    return bool(tensor.dtype.is_floating or (whole and (tensor.dtype.is_integer or tensor.dtype.is_bool)))


def tensors_in(output: Any, of_kind: Callable[[Any], bool] = _is_float, depth: int = 4) -> Iterator[Any]:
    """Yield the tensors of a kind in an output, in containers and in objects such as distributions."""
    for leaf in keras.tree.flatten(output):
        if isinstance(leaf, tf.Tensor):
            if of_kind(leaf):
                yield leaf
        elif depth and not isinstance(leaf, keras.Layer | tf.Variable):
            yield from tensors_in(attributes(leaf), of_kind, depth - 1)


def _noisy_inputs(inputs: Inputs, seed: int) -> Inputs:
    """Replace floating-point inputs by noise, so that neurons differ."""
    leaves = keras.tree.flatten(inputs)
    for i, leaf in enumerate(leaves):
        if hasattr(leaf, "dtype") and tf.as_dtype(leaf.dtype).is_floating:
            leaves[i] = tf.constant(standard_normal(leaf, derive_key(seed, i, "inputs")))
    noisy: Inputs = keras.tree.pack_sequence_as(inputs, leaves)
    return noisy


def standard_normal(like: Any, key: int) -> Any:
    """Draw standard normal numbers of an array's shape and dtype."""
    dtype = tf.as_dtype(like.dtype).as_numpy_dtype
    return np.random.default_rng(key).standard_normal(tuple(like.shape)).astype(dtype)


def _moved(variable: Any, key: int) -> Any:
    """Return a variable's value moved by a little noise."""
    value = tf.convert_to_tensor(tf_variable(variable))
    return value + tf.cast(_SMALL * standard_normal(value, key), value.dtype) if value.dtype.is_floating else value


def _equal(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two lists of outputs are the same, bit for bit."""
    return len(one) == len(other) and all(map(np.array_equal, one, other))
