"""Follow neurons from the layer that makes them to where they are read, through activation functions and the like.

The model is traced once, and the operations behind a tensor are looked at in the graph.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

_ACTIVE_LAYERS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)
_NORMS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)
# Operations in TensorFlow's graphs by what they do: a function of each entry, nothing, a move to other places, what
# keeps neurons apart, a combination with other values, a product with weights.
_ACTIVE = {"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Tanh", "Sigmoid", "Softplus", "Softsign", "Maximum", "Minimum"}
_ACTIVE |= {"Exp", "Erf", "Square", "Abs", "Sqrt", "Log", "Sin", "Cos", "ClipByValue"}
_SAME = {"Identity", "Cast", "StopGradient", "PreventGradient", "EnsureShape", "CheckNumerics"}
_MOVED = {"Reshape", "Squeeze", "ExpandDims", "Transpose", "ConcatV2", "Pack", "StridedSlice", "Split", "Tile"}
_APART = {"MaxPool", "MaxPoolV2", "MaxPool3D", "AvgPool", "AvgPool3D", "Mean", "Sum", "Max", "Pad", "PadV2", "BiasAdd"}
_COMBINED = {"AddV2", "Add", "AddN", "Sub", "Mul", "RealDiv"}
_READ = {"MatMul", "BatchMatMul", "BatchMatMulV2", "Einsum", "Conv2D", "Conv3D", "DepthwiseConv2dNative"}
_READ |= {"Conv2DBackpropInput", "Conv3DBackpropInputV2", "TensorListFromTensor", "While", "StatelessWhile"}


class Found(NamedTuple):
    """Where neurons are read.

    Attributes:
        value: The activation function's result; ``None`` if they are read as they were made.
        function: The name of the function, empty if there is none.
    """

    value: Any = None
    function: str = ""


class Trace:
    """What a traced call of a model did.

    An activation or a normalisation layer is seen as one operation.
    """

    def __init__(self) -> None:
        self._outputs: set[str] = set()
        self._inside: dict[str, tuple[Any, bool]] = {}

    def end(self, outputs: Iterable[Any]) -> None:
        """Take what the model returned."""
        self._outputs = {tensor.name for tensor in outputs}

    def watch(self, layer: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let the call of an activation or a normalisation be seen as one operation."""
        if not isinstance(layer, _ACTIVE_LAYERS + _NORMS):
            return function

        def watching(*args: Any, **options: Any) -> Any:
            graph = tf.compat.v1.get_default_graph()
            before = len(graph.get_operations())
            result = function(*args, **options)
            for operation in graph.get_operations()[before:]:
                self._inside[operation.name] = result, isinstance(layer, _ACTIVE_LAYERS)
            return result

        return watching

    def follow(self, tensor: Any) -> Found | None:
        """Return where a tensor's entries are read; ``None`` if it cannot be told."""
        found = list(self._reads(tensor, moved=False, seen=set()))
        functions = {one and one.function for one in found}
        return found[0] if len(functions) == 1 else None

    def _reads(self, tensor: Any, *, moved: bool, seen: set[str]) -> Iterator[Found | None]:
        """Yield what each operation behind a tensor makes of it."""
        if tensor.name not in seen:
            seen.add(tensor.name)
            if tensor.name in self._outputs:
                yield Found()
            for operation in tensor.consumers():
                yield from self._read_by(operation, tensor, moved=moved, seen=seen)

    def _read_by(self, operation: Any, tensor: Any, *, moved: bool, seen: set[str]) -> Iterator[Found | None]:
        """Yield what one operation makes of a tensor."""
        kind, outputs = operation.type, list(operation.outputs)
        if operation.name in self._inside:
            result, active = self._inside[operation.name]
            yield from [self._active(result, "layer", moved)] if active else self._further([result], moved, seen)
        elif kind in _READ:
            yield Found()
        elif outputs and not any(output.dtype.is_floating or output.dtype == tf.variant for output in outputs):
            return  # a shape, a comparison, a choice: what is made of the values themselves goes another way
        elif kind in _ACTIVE:
            yield self._active(outputs[0], kind, moved)
        elif kind in _SAME | _MOVED | _APART:
            yield from self._further(outputs, moved or kind in _MOVED, seen)
        elif kind in _COMBINED:
            found = list(self._further(outputs, moved, seen))
            others = [other for other in operation.inputs if other is not tensor]
            yield from [Found()] if all(map(_is_computed, others)) and Found() in found else found
        else:
            yield None

    def _further(self, tensors: Iterable[Any], moved: bool, seen: set[str]) -> Iterator[Found | None]:
        for tensor in tensors:
            yield from self._reads(tensor, moved=moved, seen=seen)

    def _active(self, result: Any, kind: str, moved: bool) -> Found | None:
        """Take an activation function's result, or that of a further one behind it."""
        behind = self.follow(result)
        found = behind if behind is not None and behind.function else Found(result, f"{kind} {result.name}")
        return None if moved else found


def _is_computed(tensor: Any) -> bool:
    """Whether a tensor is neither a constant nor a variable's value."""
    while tensor.op.type in ("Identity", "Cast", "Reshape"):
        tensor = tensor.op.inputs[0]
    return tensor.op.type not in ("Const", "ReadVariableOp", "Placeholder")
