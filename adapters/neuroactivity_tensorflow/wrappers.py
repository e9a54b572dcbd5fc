"""ReGraMa and ReDo: Keras optimizers around an optimizer, which measure and reset a model while it trains."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity.wrapping import Options, as_inputs
from neuroactivity_tensorflow.activations import read_activations
from neuroactivity_tensorflow.claims import release
from neuroactivity_tensorflow.graphs import check_threads, kept_generators, on_host
from neuroactivity_tensorflow.optimizers import Moment
from neuroactivity_tensorflow.parameters import Model, tf_variable, variables_of
from neuroactivity_tensorflow.resetter import Resetter
from neuroactivity_tensorflow.state import ModelRecord


@keras.saving.register_keras_serializable(package="neuroactivity")
class ReGraMa(Resetter):
    """Resets neurons that no longer receive gradients, while the model trains.

    An optimizer around an optimizer. After every ``every``-th step, the gradients that this very step used are scored
    (:func:`neuroactivity.grama`), and neurons with a score of at most ``tau`` are reset: fresh incoming parameters,
    zero outgoing ones, the optimizer's slots at their initial values, with a clock of their own. It works in
    ``model.fit``, compiled by XLA or not, and in custom training loops, inside ``tf.function`` and outside.

    Args:
        optimizer: One of ``keras.optimizers`` whose slots are known, or its name; any, with ``max_fraction=0``.
        model: The model, or the part of it that the optimizer trains: a Keras model or layer, or a mapping of names to
            ``tf.Variable``. Groups of which the optimizer trains nothing are left alone.
        example_inputs: Inputs of the model, one or a tuple, to find its layout.
        layout: The neuron groups, if they are not to be found.
        tau: Threshold on the score.
        every: Steps of the optimizer between two measurements.
        max_fraction: At most this part of a group is reset at once; with 0 the wrapper only measures.
        reset_silent: Whether a group without any gradient is reset as a whole.
        lowest: Reset this part of each group at every measurement, those of the lowest scores, whatever ``tau`` says.
        start: The first step at which neurons may be reset; measurements begin at once.
        stop: The last step at which neurons may be reset.
        batches: A score is that of the last so many steps together, which calls fewer neurons inactive that are rare.
        protect: For so many measurements after its reset a neuron is not reset again.
        outgoing: What the outgoing parameters of a reset neuron become, as :func:`neuroactivity.reset` says:
            ``"zero"``, ``"small"``, ``"fresh"`` or ``"keep"``.
        clock: ``"own"``: where a reset writes, the optimizer goes on as one made at that moment. ``"run"``: its slots
            start anew and its count of steps goes on, as in published codes, which makes Adam's next steps too long.
        score: A function to score neurons by instead of :func:`neuroactivity.grama`, called with what that is called
            with: gradients by parameter name, and the layout; and with the parameters by name if it takes ``params``.
            It returns non-negative scores by group name; the lower, the less active. It has to work wherever the step
            does, as in ``tf.function``; a score below zero counts as NaN there. With ``batches`` the mean of its scores
            counts. It is called once with zeros when the wrapper is made.
        initializer: Where fresh values come from: ``"layer"`` (each layer's own initialisers), ``"snapshot"`` (rows of
            the values that the model has before its first step), or a function from a key to freshly initialised
            parameters by name, such as ``lambda key: parameters(make_model())``, called while Python's and NumPy's
            generators are seeded with the key.
        moments: For an optimizer that is not known here: for each slot by name, a function from a parameter's value
            and the optimizer to the slot's initial value.
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
        TypeError: If an option is not known, or a ``score`` returns something else than tensors by name.
        ValueError: If an option is out of range, a ``score`` returns something else than scores of all groups, the
            optimizer is not known, or a parameter has no initialiser.

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

    _signal, _own_score = "weights", staticmethod(na.grama)

    def _measure(self, grads: Mapping[str, Any], trained: na.Layout, *, scored: bool) -> tuple[dict[str, Any], Any]:
        incoming = {view.param: grads.get(view.param) for group in trained.values() for view in group.incoming}
        measured = self._measured({**incoming, **grads}, trained, scored=scored)
        return measured, tf.constant([name in measured for name in self._state.trained])


@keras.saving.register_keras_serializable(package="neuroactivity")
class ReDo(Resetter):
    """Resets neurons that are dormant by their activations, while the model trains.

    Like :class:`ReGraMa`, but scored by :func:`neuroactivity.tau_dormant` on the activations of a batch that ``probe``
    returns.

    Args:
        optimizer: As for :class:`ReGraMa`, and so are all arguments not named here.
        model: A Keras model.
        probe: Returns the model's inputs, one or a tuple; called when the wrapper is made, to find out which groups can
            be measured, and when a measurement is due. Where it fails at first, as a replay buffer that is still empty
            does, ``example_inputs`` take its place. It is Python, so the training step must not be compiled by XLA:
            ``model.compile(..., jit_compile=False)``.
        tau: Threshold on the score.
        options: The other options of :class:`ReGraMa`. A ``score`` takes the place of
            :func:`neuroactivity.tau_dormant` and gets activations by group name.

    Raises:
        TypeError: If an option is not known.
        LayoutError: If the layout contradicts what the model does with the probe.

    References:
        Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023, arXiv:2302.12902.

    Notes:
        A loaded ReDo has neither model nor probe; pass them to :meth:`attach` before the next step.
    """

    _signal, _own_score = "activations", staticmethod(na.tau_dormant)

    def __init__(
        self,
        optimizer: Any,
        model: Model | ModelRecord,
        *,
        probe: Callable[[], Any] | None = None,
        example_inputs: tuple[Any, ...] | Any = (),
        layout: na.Layout | None = None,
        tau: float = 0.02,
        moments: Mapping[str, Moment] | None = None,
        name: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        if isinstance(model, Mapping):
            raise ValueError("model: expected a Keras model, whose activations can be read, got a mapping of variables")
        if not isinstance(model, ModelRecord) and not callable(probe):
            raise ValueError(f"probe: expected a function that returns the model's inputs, got {probe!r}")
        super().__init__(
            optimizer,
            model,
            example_inputs=example_inputs,
            layout=layout,
            tau=tau,
            moments=moments,
            name=name,
            **options,
        )
        self.probe = probe
        if not isinstance(model, ModelRecord):
            try:
                self._try_out(as_inputs(example_inputs))
            except BaseException:
                release(self)
                raise

    def attach(self, model: Model, probe: Callable[[], Any]) -> None:
        """Give a loaded ReDo the model that it was loaded with, and a probe."""
        self._state.record.model, self.probe = model, probe
        self._try_out(())

    def _try_out(self, example_inputs: tuple[Any, ...]) -> None:
        """Run the model once, so that what is wrong shows now; on the example inputs while there is no batch yet."""
        assert self.probe is not None
        with kept_generators():
            try:
                inputs = as_inputs(self.probe())
            except Exception:  # a replay buffer may still be empty
                inputs = example_inputs
        if not inputs:
            return
        outputs, errors = read_activations(self._state.record.model, inputs, self.layout)
        for error in errors.values():
            raise error
        unread = [name for name, value in outputs.items() if value is None]
        if self.score is not None:
            zeros = {name: x if x is None else tf.zeros_like(x) for name, x in outputs.items()}
            self._own_scores(zeros, self.layout, variables_of(self._state.record.model))
        if unread:
            warnings.warn(
                f"ReDo does not measure {', '.join(unread)}: what their readers see cannot be told; give a layout "
                "whose groups have their outgoing parameters, or use ReGraMa",
                na.ActivityWarning,
                stacklevel=3,
            )

    def _measure(self, grads: Mapping[str, Any], trained: na.Layout, *, scored: bool) -> tuple[dict[str, Any], Any]:
        model, state = self._state.record.model, self._state
        if model is None or self.probe is None:
            raise ValueError("this ReDo was loaded without model and probe; call optimizer.attach(model, probe)")
        check_threads("probe")
        dtype = tf_variable(self._scores).dtype
        specs = [tf.TensorSpec(shape, dtype) for shape in state.shapes.values()]

        def judge(*weights: Any) -> list[Any]:
            outputs, _ = read_activations(model, as_inputs(self.probe()), trained)  # type: ignore[misc]
            scores = self._measured(outputs, trained, scored=scored)
            unseen = {name: tf.fill(shape, tf.constant(float("nan"), dtype)) for name, shape in state.shapes.items()}
            present = tf.constant([name in scores for name in state.trained])
            return [*(tf.cast(scores.get(name, nan), dtype) for name, nan in unseen.items()), present]

        weights = [tf.convert_to_tensor(tf_variable(variable)) for variable in model.weights]  # as the step left them
        *scores, present = on_host(judge, weights, [*specs, tf.TensorSpec((len(specs),), tf.bool)], what="probe")
        named = dict(zip(state.trained, scores, strict=True))
        return {name: named[name] for name in trained}, present
