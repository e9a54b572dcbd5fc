"""What TensorFlow's operations do to neurons: whether they keep them apart, and where they lie afterwards."""

import math
from typing import Any, NamedTuple

import tensorflow as tf

ACTIVE = {"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Tanh", "Sigmoid", "Softplus", "Softsign", "Softmax"}
ACTIVE |= {"Maximum", "Minimum", "ClipByValue", "Select", "SelectV2", "LogSoftmax"}
ACTIVE |= {"Abs", "Ceil", "Cos", "Cosh", "Erf", "Erfc", "Exp", "Expm1", "Floor", "Inv", "Log", "Log1p", "Pow"}
ACTIVE |= {"Reciprocal", "Rint", "Round", "Rsqrt", "Sign", "Sin", "Sinh", "Sqrt", "Square", "SquaredDifference"}
ACTIVE |= {"Tan", "Atan", "Asinh", "Xlogy"}
"""Functions of each entry."""

SAME = {"Identity", "IdentityN", "Cast", "StopGradient", "PreventGradient", "CheckNumerics"}
"""Operations that change nothing."""

MOVED = {"Reshape", "Squeeze", "ExpandDims", "EnsureShape", "Transpose", "ConcatV2", "Pack", "Unpack", "StridedSlice"}
MOVED |= {"Slice", "Split", "SplitV", "Tile", "GatherV2", "GatherNd", "ReverseV2", "BroadcastTo", "SpaceToBatchND"}
MOVED |= {"BatchToSpaceND", "DepthToSpace", "SpaceToDepth", "Roll"}
"""Operations that move entries to other places."""

POOLS = {"MaxPool", "MaxPoolV2", "MaxPool3D", "AvgPool", "AvgPool3D", "Pad", "PadV2", "MirrorPad"}
POOLS |= {"ResizeNearestNeighbor", "ResizeBilinear", "ResizeBicubic"}
"""Operations that keep the order of axes, and neurons apart."""

REDUCTIONS = {"Mean", "Sum", "Max", "Min"}
"""Operations along some axes, which are their second input."""

SUMS = {"AddV2", "Add", "AddN", "Sub", "BiasAdd"}
"""Operations that add several arrays."""

COMBINED = SUMS | {"Mul", "MulNoNan", "RealDiv", "DivNoNan", "Neg"}
"""Operations on each entry that are no activation function."""

NORMS = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}
"""Operations that normalise their first input."""

NOTHING = {"ZerosLike", "OnesLike", "Shape", "Size", "Rank", "Assert"}
"""Operations that do not use values."""

READ = {"MatMul", "BatchMatMul", "BatchMatMulV2", "Einsum", "Conv2D", "Conv3D", "DepthwiseConv2dNative"}
READ |= {"Conv2DBackpropInput", "Conv3DBackpropInputV2", "TensorListFromTensor", "While", "StatelessWhile"}
"""Operations that multiply their inputs with weights or with each other, and sum the products; loops."""


class Place(NamedTuple):
    """Where neurons lie in a tensor.

    Attributes:
        axis: The axis along which they lie; ``None`` if it is not known.
        offset: Where they begin there.
        like: The name of a tensor in which they lie in the same places.
    """

    axis: int | None
    offset: int = 0
    like: str = ""


class Seen(NamedTuple):
    """Neurons in a tensor."""

    value: Any
    place: Place


class Track(NamedTuple):
    """Neurons while they are followed.

    Attributes:
        seen: What is read if they are read here: their values, before they were moved.
        place: Where they lie now.
        active: Whether an activation function has been applied.
        own: What they were before they were normalised, or before other values were added to them, as long as no
            activation function has followed.
    """

    seen: Seen
    place: Place
    active: bool = False
    own: Seen | None = None


def broadcast(place: Place, tensor: Any, output: Any) -> Place:
    """Say where neurons of a tensor lie in the result of an operation on each entry."""
    if tensor.shape.rank is None or output.shape.rank is None:
        return Place(None, like=output.name)
    if place.axis is None:
        return place if tensor.shape == output.shape else Place(None, like=output.name)
    axis = place.axis + output.shape.rank - tensor.shape.rank
    same = output.shape[axis] == tensor.shape[place.axis]
    return place._replace(axis=axis) if same else Place(None, like=output.name)


def has_all_neurons(tensor: Any, place: Place, output: Any) -> bool:
    """Whether a tensor that is combined with neurons has a value for each of them."""
    if place.axis is None or tensor.shape.rank is None:
        return bool(tensor.shape.num_elements() != 1)
    axis = place.axis - (output.shape.rank - tensor.shape.rank)
    return bool(axis >= 0 and tensor.shape[axis] != 1)


def moved(operation: Any, tensor: Any, place: Place, output: Any) -> Place:
    """Say where neurons lie after an operation that moves entries, or pools them."""
    axis, kind, old, new = place.axis, operation.type, tensor.shape, output.shape
    unknown = Place(None, like=output.name)
    if axis is None or not (old.is_fully_defined() and new.is_fully_defined()):
        return unknown
    if kind in POOLS:
        return place if new.rank == old.rank and new[axis] == old[axis] else unknown
    if kind in ("Reshape", "Squeeze", "ExpandDims", "EnsureShape"):
        after = math.prod(old[axis + 1 :])
        axes = [i for i, size in enumerate(new) if size == old[axis] and math.prod(new[i + 1 :]) == after]
        return place._replace(axis=axes[-1]) if axes else unknown
    if kind == "Transpose":
        order = tf.get_static_value(operation.inputs[1])
        return unknown if order is None else place._replace(axis=list(order).index(axis))
    if kind == "ConcatV2":
        along, parts = tf.get_static_value(operation.inputs[-1]), list(operation.inputs)[:-1]
        names = [part.name for part in parts]
        first = names.index(tensor.name)
        if None in [part.shape[axis] for part in parts]:
            return unknown
        if along is not None and along % old.rank == axis and names.count(tensor.name) == 1:
            return place._replace(offset=place.offset + sum(part.shape[axis] for part in parts[:first]))
    return unknown


def reduced(operation: Any, tensor: Any, place: Place, output: Any) -> Place | None:
    """Say where neurons lie after a reduction; None if they are reduced themselves."""
    axes = tf.get_static_value(operation.inputs[1])
    if place.axis is None or axes is None or tensor.shape.rank is None:
        return Place(None, like=output.name)
    gone = {int(axis) % tensor.shape.rank for axis in axes.reshape(-1)}
    if place.axis in gone:
        return None
    fewer = 0 if operation.get_attr("keep_dims") else sum(axis < place.axis for axis in gone)
    return place._replace(axis=place.axis - fewer)


def multiplied(operation: Any, tensor: Any, axis: int) -> int | None:
    """Return the axis of neurons in a product that sums over samples, as attention does; None if over neurons."""
    kind, output, names = operation.type, operation.outputs[0], [one.name for one in operation.inputs]
    if names.count(tensor.name) != 1 or tensor.shape.rank is None or output.shape.rank is None:
        return None
    first, rank = names[0] == tensor.name, tensor.shape.rank
    if kind == "Einsum":
        equation = operation.get_attr("equation").decode()
        given, result = equation.split("->")
        letters = given.split(",")[0 if first else 1]
        return result.index(letters[axis]) if "." not in equation and letters[axis] in result else None
    if kind not in ("MatMul", "BatchMatMul", "BatchMatMulV2"):
        return None
    flag = ("transpose_a" if first else "transpose_b") if kind == "MatMul" else ("adj_x" if first else "adj_y")
    summed = rank - 1 if first != operation.get_attr(flag) else rank - 2
    if axis == summed:
        return None
    back = rank - axis if axis < rank - 2 else 2 if first else 1  # counted from the last
    return int(output.shape.rank) - back
