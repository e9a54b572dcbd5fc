"""What may go wrong in a run, and what then happens in each framework: the table that tests and documentation share."""

from typing import NamedTuple

FRAMEWORKS = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "Keras"}

OUTCOMES = {
    "right": "exactly the inactive neurons are reset; everything else is, bit for bit, what the plain optimizer makes "
    "of it",
    "left alone": "the groups concerned are not reset, and named in the report or in a warning; all others are right",
    "refused": "one error when the wrapper is made (in JAX when `init` is called); nothing is changed",
    "refused at the step": "one error at the first step, or the first measurement, at which it can be told; nothing of "
    "a reset is written",
    "refused at loading": "one error when the state is given to the wrapper; nothing is changed",
    "rolled back": "the error is raised, and everything is as if no reset had been tried; the next one is whole",
    "reset, then raised": "the reset is whole and counted, then the error is raised; training can go on",
}
"""What may happen. Never a reset that is wrong and says nothing, never half of one."""


class Fault(NamedTuple):
    """Something that may go wrong.

    Attributes:
        name: Its name among the scenarios.
        what: What it is, for the documentation.
        torch: One of :data:`OUTCOMES`, or ``none:`` and why there is no such thing in this framework.
        jax: Likewise.
        tensorflow: Likewise.
    """

    name: str
    what: str
    torch: str
    jax: str
    tensorflow: str


_NO_STRIDES = "none: arrays have no strides"
_NO_VIEWS = "none: variables have no strides"
_NOTHING_WRITTEN = "none: an update is returned, nothing is written"
_NO_NONE = "none: optax itself needs a gradient for every array"

FAULTS = (
    # Gradients
    Fault("no gradient", "a layer has no gradient at a step", "left alone", _NO_NONE, "left alone"),
    Fault(
        "no gradient of a reader",
        "what reads a dead neuron has none",
        "left alone",
        "refused at the step",
        "left alone",
    ),
    Fault(
        "no gradient in one batch",
        "a layer without a gradient in one of the batches of a score",
        "right",
        _NO_NONE,
        "right",
    ),
    Fault("no gradient at all", "a step without any gradient", "left alone", _NO_NONE, "none: Keras itself raises"),
    Fault("NaN", "one NaN in a gradient", "left alone", "left alone", "left alone"),
    Fault("Inf", "one Inf in a gradient", "left alone", "left alone", "left alone"),
    Fault("overflow", "gradients whose sum overflows", "left alone", "left alone", "left alone"),
    Fault("large gradients", "gradients of 1e30", "right", "right", "right"),
    Fault("small gradients", "gradients of 1e-30", "right", "right", "right"),
    Fault(
        "underflow",
        "gradients below the normal numbers, which XLA and TensorFlow take for zero",
        "right",
        "left alone",
        "left alone",
    ),
    Fault("underflow of one neuron", "such gradients of one neuron", "right", "right", "right"),
    Fault("silent layer", "a layer without any gradient but zero", "left alone", "left alone", "left alone"),
    Fault("sparse gradients", "an embedding with sparse gradients", "right", "none: gradients are dense", "right"),
    Fault(
        "sparse moments",
        "momentum of sparse gradients",
        "refused at the step",
        "none: gradients are dense",
        "right",
    ),
    # Precision
    Fault("float16", "parameters of float16", "right", "right", "right"),
    Fault("bfloat16", "parameters of bfloat16", "right", "right", "right"),
    Fault("float64", "parameters of float64", "right", "right", "right"),
    # Layers and parameters
    Fault("one neuron", "a layer with one neuron", "left alone", "left alone", "left alone"),
    Fault("no neurons", "a layer without neurons", "refused", "refused", "none: Keras builds no such layer"),
    Fault("unused parameter", "a parameter that no gradient reaches", "right", "right", "right"),
    Fault(
        "tied parameter",
        "one parameter of two layers of one kind (an embedding that is also the output matrix is only measured)",
        "refused",
        "none: each name has its array",
        "refused",
    ),
    Fault("strided", "parameters that are not contiguous", "right", _NO_STRIDES, _NO_VIEWS),
    Fault("expanded", "an expanded parameter", "refused", _NO_STRIDES, _NO_VIEWS),
    Fault("shared memory", "two parameters in one memory", "refused", _NO_STRIDES, _NO_VIEWS),
    Fault("without values", "meta tensors, shapes alone, a model that is not built", "refused", "refused", "refused"),
    Fault("quantised", "weights of int8", "refused", "refused", "refused"),
    Fault("complex", "complex weights", "refused", "refused", "none: Keras has none"),
    # Frozen, replaced, added, moved
    Fault("frozen", "a layer that is frozen", "left alone", "left alone", "left alone"),
    Fault("frozen reader", "a frozen layer that reads neurons which are reset", "refused", "refused", "refused"),
    Fault(
        "frozen later",
        "a reader that is frozen after some steps",
        "left alone",
        "refused at the step",
        "refused at the step",
    ),
    Fault(
        "replaced",
        "a layer's weights are replaced by others",
        "left alone",
        "none: arrays have no identity",
        "refused at the step",
    ),
    Fault(
        "replaced and held",
        "replaced in the model and in the optimizer",
        "right",
        "none: arrays have no identity",
        "none: Keras's optimizers refuse new variables",
    ),
    Fault(
        "resized",
        "a layer is replaced by one of another size",
        "left alone",
        "refused at the step",
        "refused at the step",
    ),
    Fault(
        "moved",
        "parameters that are moved to other memory after some steps, as `model.to(device)` does",
        "right",
        "none: arrays have no identity",
        "none: variables stay where they are",
    ),
    Fault("added", "a layer is added to the model", "right", "none: optax itself refuses a new tree", "right"),
    Fault(
        "cast",
        "the model is cast to another precision after some steps",
        "right",
        "refused at the step",
        "none: variables keep their dtype",
    ),
    Fault("weights loaded", "weights are loaded after some steps", "right", "right", "right"),
    Fault(
        "weights assigned",
        "`load_state_dict(assign=True)`, which the optimizer does not see",
        "left alone",
        "none: arrays have no identity",
        "none: weights are copied",
    ),
    Fault("optimizer state loaded", "the optimizer's state is loaded after some steps", "right", "right", "right"),
    # Optimizers
    Fault("unknown optimizer", "an optimizer whose state nobody has described", "refused", "refused", "refused"),
    Fault("factored moments", "Adafactor, whose moments mix neurons", "refused", "refused", "refused"),
    Fault("two wrappers", "two wrappers that reset the same parameters", "refused", "refused", "refused"),
    Fault("loss scale", "gradients that are scaled by a scaler", "right", "right", "right"),
    Fault(
        "skipped outside",
        "a step that a scaler, or `apply_if_finite` around the wrapper, skips",
        "right",
        "right",
        "right",
    ),
    Fault(
        "skipped inside",
        "a fused step that a scaler skips; `apply_if_finite` or `LossScaleOptimizer` inside",
        "right",
        "right",
        "refused",
    ),
    Fault("fused", "`fused=True`, with and without a scaler", "right", "none: one kind", "none: one kind"),
    Fault("accumulation outside", "gradients are accumulated before the step", "right", "right", "right"),
    Fault(
        "accumulation inside",
        "`MultiSteps` or `gradient_accumulation_steps` inside",
        "none: there is none",
        "right",
        "refused",
    ),
    Fault(
        "step in the backward pass",
        "an optimizer for each parameter, stepped by its hook",
        "right",
        "none: there are no hooks",
        "none: there are no hooks",
    ),
    # States
    Fault(
        "state of another layout",
        "a state of another layout",
        "refused at loading",
        "refused at the step",
        "refused at loading",
    ),
    Fault(
        "state of another version",
        "a state that lacks what an older version did not keep",
        "right",
        "refused at loading",
        "right",
    ),
    Fault(
        "damaged state",
        "a state with a count that cannot be",
        "refused at loading",
        "refused at the step",
        "refused at loading",
    ),
    # Functions of the user
    Fault("score of another shape", "a `score` that returns too few numbers", "refused", "refused", "refused"),
    Fault("score of some layers", "a `score` that leaves out a layer", "refused", "refused", "refused"),
    Fault("score of NaN", "a `score` that is NaN whatever the gradients are", "refused", "refused", "refused"),
    Fault(
        "score of NaN later",
        "a `score` that is NaN at a step",
        "refused at the step",
        "refused at the step",
        "refused at the step",
    ),
    Fault("fresh values of another shape", "an `initializer` whose values do not fit", "refused", "refused", "refused"),
    Fault("fresh values of NaN", "an `initializer` whose values are NaN", "refused", "refused", "refused"),
    Fault("fresh values of NaN later", "an `initializer` whose values are NaN at a reset", *3 * ["rolled back"]),
    # Errors in the middle
    Fault("write fails", "any one write of a reset fails", "rolled back", _NOTHING_WRITTEN, "rolled back"),
    Fault(
        "Ctrl-C",
        "an interrupt at any one write of a reset",
        "reset, then raised",
        _NOTHING_WRITTEN,
        "reset, then raised",
    ),
    Fault(
        "initializer fails", "the function that draws fresh values raises", "rolled back", "rolled back", "rolled back"
    ),
    Fault("score fails", "a `score` of the user's raises", "rolled back", "rolled back", "rolled back"),
    Fault("probe fails", "the function that gives ReDo its batch raises", "rolled back", "rolled back", "rolled back"),
    Fault(
        "on_report fails",
        "the function that is called with each report raises",
        "reset, then raised",
        "rolled back",
        "reset, then raised",
    ),
)


def page() -> str:
    """Return the tables of ``docs/faults.md``."""
    rows = ["| outcome | what that means |", "|---|---|"]
    rows += [f"| {outcome} | {meaning} |" for outcome, meaning in OUTCOMES.items()]
    rows += ["| none: | it cannot happen in this framework, and why |"]
    rows += ["", f"| name | fault | {' | '.join(FRAMEWORKS.values())} |", "|---|---|---|---|---|"]
    rows += [
        f"| `{fault.name}` | {fault.what} | {' | '.join(getattr(fault, name) for name in FRAMEWORKS)} |"
        for fault in FAULTS
    ]
    return "\n".join(rows)
