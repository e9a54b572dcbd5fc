"""What the results of a compiled program depend on: it is read, and nothing is computed.

Every input has a set of labels. A label of a result is marked where it came through an operation that brings entries of
one array together (:data:`MIXED`), through a maximum (:data:`MAXIMUM`), through another function that is not linear
(:data:`BENT`), or through one truth that decides (:data:`TRUTH`).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

Labels: TypeAlias = frozenset[str]
Visit: TypeAlias = Callable[[str, Sequence[Labels]], None]
"""Called with the name of every operation and the labels of its operands."""

MIXED, MAXIMUM, BENT, TRUTH = _MARKS = "\x01\x02\x03\x04"  # which no name begins with

_CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
_ARITHMETIC = {"abs", "add", "add_any", "clamp", "div", "integer_pow", "max", "min", "mul", "neg", "pow", "rem", "sub"}
_FUNCTIONS = {"cbrt", "erf", "exp", "exp2", "expm1", "log", "log1p", "logistic", "rsqrt", "sign", "sqrt", "square"}
_ROUNDING = {"ceil", "convert_element_type", "copy", "copy_p", "floor", "reduce_precision", "round", "tanh"}
_CHOICE = {"and", "eq", "ge", "gt", "is_finite", "le", "lt", "ne", "not", "or", "select_n", "xor"}
_SHAPE = {"broadcast_in_dim", "reshape", "sharding_constraint", "squeeze", "transpose"}
_LINEAR = {"add", "add_any", "convert_element_type", "copy", "copy_p", "div", "mul", "neg", "reduce_precision"} | _SHAPE
_LINEAR |= {"optimization_barrier", "select_n", "sub"}
_ENTRYWISE = _ARITHMETIC | _FUNCTIONS | _ROUNDING | _CHOICE | _SHAPE


def plain(labels: Labels) -> Labels:
    """Return labels without their marks."""
    return frozenset([label.lstrip(_MARKS) for label in labels])


def marked(labels: Labels, mark: str) -> Labels:
    """Return those labels that have a mark, without their marks."""
    return plain(frozenset([label for label in labels if mark in label]))


def unmarked(labels: Labels, marks: str) -> Labels:
    """Return those labels that came some way without any of some marks, without their marks."""
    return plain(frozenset([label for label in labels if not set(marks) & set(_marks(label))]))


def trace_labels(
    program: Jaxpr, inputs: Sequence[Labels], visit: Visit | None = None, deciding: Collection[str] = ()
) -> list[Labels]:
    """Return the labels of the inputs that each result of a program depends on.

    What decides a condition, one truth such as whether all gradients are finite, is not followed, but for the labels
    ``deciding``.
    """
    known: dict[Var, Labels] = dict(zip(program.invars, inputs, strict=True))

    def of(atom: Any) -> Labels:
        return frozenset() if isinstance(atom, Literal) else known.get(atom, frozenset())

    for equation in program.eqns:
        operands = [of(atom) for atom in equation.invars]
        name = equation.primitive.name
        if visit is not None:
            visit(name, operands)
        results = _inside(name, equation.params, operands, visit, deciding)
        found: Labels = frozenset().union(*operands)
        if results is None:
            if name not in _LINEAR:
                found = _with_mark(found, MAXIMUM if name == "max" else BENT)
            sizes = [1 if isinstance(atom, Literal) else getattr(atom.aval, "size", 1) for atom in equation.invars]
            mixes = any(labels and size > 1 for labels, size in zip(operands, sizes, strict=True))
            found = _with_mark(found, MIXED) if mixes and name not in _ENTRYWISE else found
        for number, variable in enumerate(equation.outvars):
            kind = getattr(variable.aval, "dtype", None), getattr(variable.aval, "shape", None)
            reached = found if results is None else results[number]
            if kind == (np.dtype(bool), ()):
                reached = _with_mark(frozenset([at for at in reached if at.lstrip(_MARKS) in deciding]), TRUTH)
            known[variable] = reached
    return [of(atom) for atom in program.outvars]


def _with_mark(labels: Labels, mark: str) -> Labels:
    """Mark labels; their marks stay in order, so that a label has one form for each set of marks."""
    return frozenset(["".join(sorted({mark, *_marks(label)})) + label.lstrip(_MARKS) for label in labels])


def _marks(label: str) -> str:
    return label[: len(label) - len(label.lstrip(_MARKS))]


def _inside(
    name: str, options: Any, operands: Sequence[Labels], visit: Visit | None, deciding: Collection[str]
) -> list[Labels] | None:
    """Look into calls and branches; ``None`` for what is not looked into, where everything depends on everything."""
    if name == "cond":
        branches = [trace_labels(branch.jaxpr, operands[1:], visit, deciding) for branch in options["branches"]]
        return [operands[0].union(*results) for results in zip(*branches, strict=True)]
    inner = [part for part in options.values() if isinstance(part, ClosedJaxpr | Jaxpr)]
    if name in _CALLS and len(inner) == 1:
        program = inner[0].jaxpr if isinstance(inner[0], ClosedJaxpr) else inner[0]
        return trace_labels(program, operands, visit, deciding) if len(program.invars) == len(operands) else None
    return None
