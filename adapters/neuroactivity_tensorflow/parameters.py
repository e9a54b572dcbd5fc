"""From a Keras model to arrays by name, and back.

A parameter is named by its path in the model: the attribute or position of each layer on the way to it, then the
variable's name, as in ``trunk/0/kernel``. Keras's ``variable.path`` contains numbered names such as ``dense_3``, which
change when a model is built again or loaded.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from neuroactivity import LayoutError
from neuroactivity.arrays import check_like
from neuroactivity.wrapping import undivided

Model: TypeAlias = Any
"""A Keras layer or model, or a mapping of names to ``tf.Variable``."""

_SKIPPED = {"_layers", "_operations", "_functional"}  # Keras's own lists of layers; TensorFlow's begin with _self_


def parameters(model: Model) -> dict[str, Any]:
    """Return the values of a model's parameters by name, frozen ones included.

    Args:
        model: A built Keras layer or model, or a mapping of names to ``tf.Variable``.

    Example:
        >>> layer = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="mean")])
        >>> {name: tuple(value.shape) for name, value in parameters(layer).items()}
        {'mean/kernel': (3, 2), 'mean/bias': (2,)}
    """
    return {name: tf.convert_to_tensor(tf_variable(variable)) for name, variable in variables_of(model).items()}


def gradients(model: Model, grads: Sequence[Any]) -> dict[str, Any]:
    """Name the gradients of a model's trainable variables; ``None`` where there is no gradient.

    Args:
        model: A Keras layer or model, or a mapping of names to ``tf.Variable``.
        grads: One gradient for each of ``model.trainable_variables`` (of a mapping: its values), in that order, as
            ``tape.gradient`` returns them.

    Raises:
        LayoutError: If the number of gradients is not that of the trainable variables.

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
    by_id = {id(variable): gradient for variable, gradient in zip(trainable, grads, strict=True)}
    return {name: dense_gradient(by_id.get(id(variable)), variable) for name, variable in variables_of(model).items()}


def dense_gradient(gradient: Any, variable: Any) -> Any:
    """Return a variable's gradient; a sparse one as a dense tensor with its shape, which a graph would not know."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.ensure_shape(tf.convert_to_tensor(gradient), variable.shape)


def write(model: Model, params: Mapping[str, Any]) -> None:
    """Assign values to a model's parameters: all of them, or none if one does not fit.

    Args:
        model: A Keras layer or model, or a mapping of names to ``tf.Variable``.
        params: Values by parameter name, with the parameters' shapes and dtypes. Parameters that are not named keep
            their values.

    Raises:
        LayoutError: If a name is unknown, or a value has the wrong shape or dtype; nothing is written.

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
        check_like(value, tf_variable(named[name]), f"parameter {name!r}")
    assign_all([(tf_variable(named[name]), value) for name, value in params.items()])


class Patch(NamedTuple):
    """New values for a part of a variable.

    Attributes:
        index: Which part, as ``tf.gather_nd`` takes it.
        values: The values; ``None`` if there are none yet.
        sizes: The variable's shape with the parentheses of a pattern opened.
    """

    index: Any
    values: Any
    sizes: tuple[int, ...]

    def read(self, whole: Any) -> Any:
        """Return this part of a tensor or a variable."""
        return tf.gather_nd(_reshaped(whole, self.sizes), self.index)


def patched(whole: Any, patches: Iterable[Patch]) -> Any:
    """Return a tensor with some of its parts replaced, the later ones last."""
    value = tf.convert_to_tensor(whole)
    for index, values, sizes in patches:
        value = tf.tensor_scatter_nd_update(_reshaped(value, sizes), index, values)
    return _reshaped(value, whole.shape)


def _reshaped(value: Any, shape: Any) -> Any:
    return value if value.shape == shape else tf.reshape(value, shape)


def assign_all(pairs: Iterable[tuple[Any, Any]]) -> None:
    """Assign values, or lists of :class:`Patch`, to ``tf.Variable``: if a write fails, what was written is put back.

    In ``tf.function`` all values are computed before the first is written. Ctrl-C waits for the last write.
    """
    if tf.executing_eagerly():
        with undivided():
            _assign_or_put_back(pairs)
        return
    pairs = list(pairs)
    with tf.control_dependencies([value for _, value in pairs]):
        for variable, value in pairs:
            variable.assign(value)


def _assign_or_put_back(pairs: Iterable[tuple[Any, Any]]) -> None:
    kept: list[tuple[Any, Any]] = []
    try:
        for variable, value in pairs:
            parts = value if isinstance(value, list) else None
            old = tf.convert_to_tensor(variable)
            kept.append((variable, old if parts is None else [p._replace(values=p.read(old)) for p in parts]))
            variable.assign(value if parts is None else patched(old, parts))
    except BaseException:
        for variable, old in reversed(kept):
            with suppress(Exception):  # the one that failed may fail again
                variable.assign(patched(variable, old) if isinstance(old, list) else old)
        raise


def tf_variable(variable: Any) -> Any:
    """Return the ``tf.Variable`` under a Keras variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def is_frozen(variable: Any) -> bool:
    """Whether a Keras variable is not to be trained."""
    return isinstance(variable, keras.Variable) and not variable.trainable


def variables_of(model: Model) -> dict[str, Any]:
    """Return the variables of a model that were created as trainable, by name, frozen ones included.

    Raises:
        LayoutError: If the model has no variables yet, or is not a model.
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
    """Return a model and all layers in it by path, each layer once, in the model's order.

    Raises:
        LayoutError: If it is not a Keras layer.
    """
    if not isinstance(model, keras.Layer):
        expected = "expected a Keras layer or model, or a mapping of names to tf.Variable"
        raise LayoutError(f"{expected}, got {type(model).__name__}")
    layers: dict[str, Any] = {}
    _collect("", model, layers, set())
    return layers


def owner_of(model: Model, param: str) -> Any:
    """Return the layer that holds a parameter; ``None`` in a mapping of variables."""
    return None if isinstance(model, Mapping) else layers_of(model)[param.rpartition("/")[0]]


def _collect(path: str, layer: Any, layers: dict[str, Any], seen: set[int]) -> None:
    """Add a layer and its sublayers."""
    seen.add(id(layer))
    layers[path] = layer
    for label, child in _children(layer):
        if id(child) not in seen:
            _collect(f"{path}/{label}" if path else label, child, layers, seen)


def _children(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the direct sublayers of a layer: those of a functional or sequential model, then its attributes."""
    if isinstance(layer, keras.Sequential) or hasattr(layer, "operations"):
        labels = [str(i) if _is_numbered(child) else child.name for i, child in enumerate(layer.layers)]
        unique = len(set(labels)) == len(labels)
        yield from zip(labels if unique else map(str, range(len(labels))), layer.layers, strict=True)
    for name, value in vars(layer).items():
        if name not in _SKIPPED and not name.startswith("_self_"):
            public = name.lstrip("_")
            yield from _inside(public if public and public not in vars(layer) else name, value, keras.Layer)


def _inside(label: str, value: Any, kind: Any) -> Iterator[tuple[str, Any]]:
    """Yield the objects of one type in an attribute: the value itself, or items of lists and dictionaries."""
    if isinstance(value, kind):
        yield label, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _inside(f"{label}/{key}", item, kind)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _inside(f"{label}/{i}", item, kind)


def _is_numbered(layer: Any) -> bool:
    """Whether Keras named the layer itself, after its class and a running number."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return re.fullmatch(rf"{re.escape(name)}(_\d+)?", layer.name) is not None


def own_variables(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables that a layer itself holds, by their names, or by attribute where they have none."""
    variables = layer._trainable_variables  # without those of sublayers, with frozen ones
    names = [variable.name for variable in variables]
    attributes = {
        id(variable): label.lstrip("_")
        for name, value in vars(layer).items()
        if name not in ("_trainable_variables", "_non_trainable_variables")
        for label, variable in _inside(name, value, keras.Variable)
    }
    for i, variable in enumerate(variables):
        named = names.count(variable.name) == 1 and not re.fullmatch(r"variable(_\d+)?", variable.name)
        yield variable.name if named else attributes.get(id(variable), str(i)), variable
