"""From a Keras model to arrays by name, and back.

A parameter is named by where it stands in the model: the attribute or the position of each layer on the way to it, and
the variable's own name, ``trunk/0/kernel``. Keras's own ``variable.path`` is built from numbered names such as
``dense_3``, which change when a model is built again or loaded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from neuroactivity import LayoutError

__all__ = ["Model", "gradients", "layers_of", "own_variables", "owner_of", "parameters", "variables_of", "write"]

Model: TypeAlias = Any
"""A Keras layer or model, or a mapping of names to ``tf.Variable``."""

_SKIPPED = {"_layers", "_operations", "_functional"}  # Keras's own lists of layers; TensorFlow's begin with _self_


def parameters(model: Model) -> dict[str, Any]:
    """Return the values of a model's parameters, frozen ones too, by name.

    Args:
        model: A Keras layer or model that has been built, or a mapping of names to ``tf.Variable``.

    Example:
        >>> layer = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="mean")])
        >>> {name: tuple(value.shape) for name, value in parameters(layer).items()}
        {'mean/kernel': (3, 2), 'mean/bias': (2,)}
    """
    return {name: tf.convert_to_tensor(raw(variable)) for name, variable in variables_of(model).items()}


def gradients(model: Model, grads: Sequence[Any]) -> dict[str, Any]:
    """Return the gradients of a model's trainable variables by name; ``None`` where there is no gradient.

    Args:
        model: A Keras layer or model, or a mapping of names to ``tf.Variable``.
        grads: A gradient for each of ``model.trainable_variables`` (of a mapping: of its values), in that order, as
            ``tape.gradient`` gives them.

    Raises:
        LayoutError: If there are more or fewer gradients than trainable variables.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> with tf.GradientTape() as tape:
        ...     loss = tf.reduce_sum(model(tf.ones((1, 3))))
        >>> gradients(model, tape.gradient(loss, model.trainable_variables))["0/bias"].numpy().tolist()
        [1.0, 1.0]
    """
    trainable = list(model.values()) if isinstance(model, Mapping) else list(model.trainable_variables)
    if len(trainable) != len(grads):
        raise LayoutError(f"expected a gradient for each of {len(trainable)} trainable variables, got {len(grads)}")
    given = {id(variable): gradient for variable, gradient in zip(trainable, grads, strict=True)}
    return {name: dense_gradient(given.get(id(variable)), variable) for name, variable in variables_of(model).items()}


def dense_gradient(gradient: Any, variable: Any) -> Any:
    """Return a variable's gradient, a sparse one as a dense tensor, whose shape a graph would not know."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.ensure_shape(tf.convert_to_tensor(gradient), variable.shape)


def write(model: Model, params: Mapping[str, Any]) -> None:
    """Assign values to a model's parameters, all of them or none.

    Args:
        model: A Keras layer or model, or a mapping of names to ``tf.Variable``.
        params: Values by parameter name, of the parameters' shapes and dtypes. Parameters without a value stay as they
            are.

    Raises:
        LayoutError: If a name is unknown, or a value has another shape or dtype than its parameter; nothing is written.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> write(model, {"0/bias": tf.constant([3.0])})
        >>> model.layers[0].bias.numpy().item()
        3.0
    """
    named = variables_of(model)
    for name, value in params.items():
        if name not in named:
            raise LayoutError(f"parameter {name!r} is not in the model; there are {', '.join(list(named)[:8])}")
        check_like(value, raw(named[name]), f"parameter {name!r}")
    for name, value in params.items():
        raw(named[name]).assign(value)


def check_like(value: Any, variable: Any, where: str) -> None:
    """Raise unless a value has its variable's shape and dtype."""
    shape, dtype = tuple(value.shape), tf.as_dtype(value.dtype)
    if shape != tuple(variable.shape) or dtype != variable.dtype:
        expected = f"shape {tuple(variable.shape)} and dtype {variable.dtype.name}"
        raise LayoutError(f"{where}: expected {expected}, got {shape} and {dtype.name}")


def raw(variable: Any) -> Any:
    """Return the ``tf.Variable`` under a Keras variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def variables_of(model: Model) -> dict[str, Any]:
    """Return the variables of a model that were made to be trained, frozen ones too, by name.

    Raises:
        LayoutError: If the model has no variables yet, or is no model.
    """
    if isinstance(model, Mapping):
        return dict(model)
    named: dict[str, Any] = {}
    for path, layer in layers_of(model).items():
        for label, variable in own_variables(layer):
            named.setdefault(f"{path}/{label}" if path else label, variable)
    if not named and not model.built:
        raise LayoutError(f"{type(model).__name__} has no variables yet: call it on example inputs first")
    return named


def layers_of(model: Model) -> dict[str, Any]:
    """Return a model and all layers in it by path, each layer once, in the order in which they stand there.

    Raises:
        LayoutError: If it is no Keras layer.
    """
    if not isinstance(model, keras.Layer):
        expected = "expected a Keras layer or model, or a mapping of names to tf.Variable"
        raise LayoutError(f"{expected}, got {type(model).__name__}")
    found: dict[str, Any] = {}
    _collect("", model, found, set())
    return found


def owner_of(model: Model, param: str) -> Any:
    """Return the layer that holds a parameter, or ``None`` in a mapping of variables."""
    return None if isinstance(model, Mapping) else layers_of(model)[param.rpartition("/")[0]]


def _collect(path: str, layer: Any, found: dict[str, Any], seen: set[int]) -> None:
    """Add a layer and those below it to what was found."""
    seen.add(id(layer))
    found[path] = layer
    for label, child in _children(layer):
        if id(child) not in seen:
            _collect(f"{path}/{label}" if path else label, child, found, seen)


def _children(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers directly below a layer: those of a functional or sequential model, then its attributes."""
    if isinstance(layer, keras.Sequential) or hasattr(layer, "operations"):
        labels = [str(i) if _is_numbered(child) else child.name for i, child in enumerate(layer.layers)]
        unique = len(set(labels)) == len(labels)
        yield from zip(labels if unique else map(str, range(len(labels))), layer.layers, strict=True)
    for name, value in vars(layer).items():
        if name not in _SKIPPED and not name.startswith("_self_"):
            public = name.lstrip("_")
            yield from _inside(public if public and public not in vars(layer) else name, value, keras.Layer)


def _inside(label: str, value: Any, kind: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is of a kind in an attribute: the value itself, or items of lists and dictionaries."""
    if isinstance(value, kind):
        yield label, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _inside(f"{label}/{key}", item, kind)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _inside(f"{label}/{number}", item, kind)


def _is_numbered(layer: Any) -> bool:
    """Whether Keras named a layer, after its class and a running number."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return re.fullmatch(rf"{re.escape(name)}(_\d+)?", layer.name) is not None


def own_variables(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables that a layer itself holds, by their own names, or by attribute where they have none."""
    own = layer._trainable_variables  # those of the layers below are not in it, frozen ones are
    names = [variable.name for variable in own]
    attributes = {
        id(variable): label.lstrip("_")
        for name, value in vars(layer).items()
        if name not in ("_trainable_variables", "_non_trainable_variables")
        for label, variable in _inside(name, value, keras.Variable)
    }
    for number, variable in enumerate(own):
        named = names.count(variable.name) == 1 and not re.fullmatch(r"variable(_\d+)?", variable.name)
        yield variable.name if named else attributes.get(id(variable), str(number)), variable
