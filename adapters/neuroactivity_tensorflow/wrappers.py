"""ReGraMa and ReDo: Keras optimizers around an optimizer, which measure and reset a model while it trains."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow.activations import activations
from neuroactivity_tensorflow.hosts import on_host
from neuroactivity_tensorflow.initializers import Initializer
from neuroactivity_tensorflow.models import Model, raw
from neuroactivity_tensorflow.optimizers import Moment
from neuroactivity_tensorflow.resetters import Resetter, as_tuple
from neuroactivity_tensorflow.subjects import Subject

__all__ = ["ReDo", "ReGraMa"]


@keras.saving.register_keras_serializable(package="neuroactivity")
class ReGraMa(Resetter):
    """Resets the neurons whose gradients have died, while the model trains.

    An optimizer around an optimizer. After every ``every``-th step, the gradients which that very step used are scored
    (:func:`neuroactivity.grama`), and neurons with a score of at most ``tau`` are reset: fresh incoming parameters,
    zero outgoing ones, slots as the optimizer starts with. It works in ``model.fit``, compiled by XLA or not, and in
    loops of one's own, inside ``tf.function`` and outside.

    Args:
        optimizer: Any optimizer of ``keras.optimizers``, or its name.
        model: The model, or the part of it that the optimizer trains: a Keras model or layer, or a mapping of names to
            ``tf.Variable``. Groups of which the optimizer trains nothing are left alone.
        example_inputs: What the model is called with, to find its layout: one input or a tuple.
        layout: The neuron groups, if they are not to be found.
        tau: Threshold on the score.
        every: Steps of the optimizer between two measurements.
        max_fraction: At most this part of a group is reset at once; with 0 the wrapper only measures.
        reset_silent: Whether a group without any gradient is reset as a whole.
        initializer: Where fresh values come from: ``"layer"`` (the initialisers that each layer gives to its
            variables), ``"snapshot"`` (rows of the values that the model has before its first step), or a
            function from a key to freshly initialised parameters by name, such as ``lambda key:
            parameters(make_model())``, called while Python's and NumPy's generators are seeded with the key.
        moments: For an optimizer that is not known here: by name of the slot a function from a parameter's value and
            the optimizer to the value that the slot starts with.
        seed: Seed of all draws. Give wrappers of networks with equal parameter names different seeds.
        on_report: Called with each report.
        name: Name of the optimizer.

    Attributes:
        last_report: The latest :class:`neuroactivity.ActivityReport`; ``None`` before the first measurement.
        steps: Steps of the optimizer so far.
        measurements: Measurements so far.
        resets: Measurements that reset at least one neuron.
        neurons_reset: Neurons reset so far.

    Raises:
        LayoutError: If the layout cannot be found, or does not fit the model.
        ValueError: If an option is out of range, the optimizer is not known, or a parameter has no initialiser.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
        >>> optimizer = ReGraMa(keras.optimizers.Adam(3e-4), model, example_inputs=tf.zeros((8, 3)), every=1)
        >>> model.compile(optimizer, loss="mse")
        >>> history = model.fit(tf.ones((8, 3)), tf.ones((8, 1)), verbose=0)
        >>> optimizer.last_report["0"].neurons
        64

    References:
        Liu et al., "Measure gradients, not activations! Enhancing neuronal activity in deep reinforcement learning",
        NeurIPS 2025, arXiv:2505.24061, Algorithm 1.

    Notes:
        ``on_report``, and an ``initializer`` or ``probe`` that is a function, are Python and cannot be called by code
        that XLA compiles.
    """

    def _measure(self, grads: Mapping[str, Any], owned: na.Layout) -> tuple[dict[str, Any], Any]:
        incoming = {view.param: grads.get(view.param) for group in owned.values() for view in group.incoming}
        scores = na.grama(incoming, owned)
        return scores, tf.constant([name in scores for name in self._bound.owned])


@keras.saving.register_keras_serializable(package="neuroactivity")
class ReDo(Resetter):
    """Resets the neurons whose activations have died, while the model trains.

    As :class:`ReGraMa`, but scored by :func:`neuroactivity.tau_dormant` on the activations of a batch that ``probe``
    gives.

    Args:
        optimizer: As for :class:`ReGraMa`, and so are all arguments not named here.
        model: A Keras model.
        probe: Returns the model's inputs, one or a tuple; called only when a measurement is due. It is Python, so that
            the training step must not be compiled by XLA: ``model.compile(..., jit_compile=False)``.
        tau: Threshold on the score.

    References:
        Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023, arXiv:2302.12902.

    Notes:
        A loaded ReDo has neither model nor probe; give them by :meth:`attach` before the next step.
    """

    def __init__(
        self,
        optimizer: Any,
        model: Model | Subject,
        *,
        probe: Callable[[], Any] | None = None,
        example_inputs: tuple[Any, ...] | Any = (),
        layout: na.Layout | None = None,
        tau: float = 0.02,
        every: int = 1000,
        max_fraction: float | None = None,
        reset_silent: bool = False,
        initializer: Initializer = "layer",
        moments: Mapping[str, Moment] | None = None,
        seed: int = 0,
        on_report: Callable[[na.ActivityReport], None] | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(model, Mapping):
            raise ValueError("model: expected a Keras model, whose activations can be read, got a mapping of variables")
        if not isinstance(model, Subject) and not callable(probe):
            raise ValueError(f"probe: expected a function that returns the model's inputs, got {probe!r}")
        super().__init__(
            optimizer,
            model,
            example_inputs=example_inputs,
            layout=layout,
            tau=tau,
            every=every,
            max_fraction=max_fraction,
            reset_silent=reset_silent,
            initializer=initializer,
            moments=moments,
            seed=seed,
            on_report=on_report,
            name=name,
        )
        self.probe = probe

    def attach(self, model: Model, probe: Callable[[], Any]) -> None:
        """Give a loaded ReDo the model that it was loaded with, and a probe."""
        self._bound.subject.model, self.probe = model, probe

    def _measure(self, grads: Mapping[str, Any], owned: na.Layout) -> tuple[dict[str, Any], Any]:
        model, probe, bound = self._bound.subject.model, self.probe, self._bound
        if model is None or probe is None:
            raise ValueError("this ReDo was loaded without model and probe; call optimizer.attach(model, probe)")
        specs = [tf.TensorSpec(shape, raw(self._scores).dtype) for shape in bound.shapes.values()]

        def judge(*values: Any) -> list[Any]:
            seen = activations(model, *as_tuple(probe()), layout=owned)
            scores = na.tau_dormant(seen, owned)
            unseen = [tf.fill(spec.shape, tf.constant(float("nan"), spec.dtype)) for spec in specs]
            given = [scores.get(name, nan) for name, nan in zip(bound.owned, unseen, strict=True)]
            return [
                *(tf.cast(score, unseen[0].dtype) for score in given),
                tf.constant([n in scores for n in bound.owned]),
            ]

        weights = [tf.convert_to_tensor(raw(variable)) for variable in model.weights]  # after the step has written them
        present = tf.TensorSpec((len(specs),), tf.bool)
        *scores, there = on_host(judge, weights, [*specs, present], what="probe")
        named = dict(zip(bound.owned, scores, strict=True))
        return {name: named[name] for name in owned}, there
