"""ReGraMa and ReDo: attached to an optimizer, they measure and reset a model while it trains."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Unpack

from torch import Tensor, nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.wrapping import Options
from neuroactivity_torch.optimizers import Moment
from neuroactivity_torch.parameters import dense_gradient
from neuroactivity_torch.probes import Probe
from neuroactivity_torch.ranks import ProcessGroup
from neuroactivity_torch.resetter import Resetter


class ReGraMa(Resetter):
    """Resets the neurons whose gradients have vanished, while the model trains.

    After every ``every``-th step of the optimizer, the gradients that this step used are scored
    (:func:`neuroactivity.grama`), and neurons with a score of at most ``tau`` are reset: fresh incoming parameters,
    zero outgoing ones, moments as the optimizer starts with. The training loop does not change.

    Args:
        model: The model, or the part of it that ``optimizer`` trains. Groups of which the optimizer trains nothing are
            left alone.
        optimizer: Its optimizer, of ``torch.optim``, also inside a wrapper that holds it as ``.optimizer``; or a list
            of several that step one after another on the same gradients: a step is counted when all have stepped.
        example_inputs: What the model is called with, to discover its layout. With ``max_fraction=0`` not needed.
        layout: The neuron groups, if they are not to be discovered; a resumed run's are
            ``na.Layout.from_dict(state["layout"])`` of the saved state.
        tau: Threshold on the score.
        every: Steps of the optimizer between two measurements.
        max_fraction: At most this part of a group is reset at once; with 0 the wrapper only measures.
        reset_silent: Whether a group without any gradient is reset as a whole.
        lowest: Reset this part of each group at every measurement, those of the lowest scores, whatever ``tau`` is.
        start: The first step at which neurons may be reset; measurements begin at once.
        stop: The last step at which neurons may be reset.
        batches: Score the gradients of the last so many steps together. One small batch calls neurons inactive that are
            only rare.
        protect: For so many measurements after its reset a neuron is not reset again.
        outgoing: What the outgoing parameters of a reset neuron become: ``"zero"``, ``"small"``, ``"fresh"`` or
            ``"keep"``, as :func:`neuroactivity.reset` says.
        clock: ``"own"``: at the entries that a reset writes the optimizer goes on as one made at that moment: for 200
            steps their bias is corrected by their own step count, then the moments are handed over to that of the run.
            ``"run"``: moments start anew under the step count of the run, as in published codes; Adam's first steps are
            then several times too long.
        score: A function to score neurons by instead of :func:`neuroactivity.grama`, called with what that is called
            with: gradients by parameter name, whole ones also where parameters are sharded, and the layout; and with
            the parameters by name if it takes ``params``. It returns non-negative scores by group name; the lower, the
            less active. With ``batches`` the mean of its scores counts. It is called once with zeros when the wrapper
            is made.
        initializer: Where fresh values come from: ``"layer"`` (``reset_parameters`` of each module), ``"snapshot"``
            (rows of the values that the model has now), or a function from a key to freshly initialised parameters by
            name, such as ``lambda key: parameters(make_model())``, called while the generators of PyTorch, Python
            and NumPy are seeded with the key.
        moments: For an optimizer outside ``torch.optim``: by state key, a function from the new values of reset rows of
            a parameter (the first axis counts them) and its parameter group's options to what the optimizer starts with
            there, of the same shape.
        seed: Seed of all draws, a whole number. Give wrappers of networks with equal parameter names different seeds.
        process_group: With ``torch.distributed``: the processes that train the model together. By default those of
            ``DistributedDataParallel`` where ``model`` is wrapped in it, those over which parameters are sharded, or
            else all; ``False`` where this process trains a model of its own.
        check_ranks: Whether to compare the processes after each reset, and to stop where they have parted.
        on_report: Called with each report.

    Attributes:
        last_report: The latest :class:`neuroactivity.ActivityReport`; ``None`` before the first measurement.
        steps: Steps of the optimizer so far.
        measurements: Measurements so far.
        resets: Measurements that reset at least one neuron.
        neurons_reset: Neurons reset so far.

    Raises:
        LayoutError: If the layout cannot be discovered, as of a model that is sharded already, or does not fit the
            model.
        RuntimeError: At a measurement, with ``check_ranks``, if the processes do not have the same parameters and
            moments any more.
        TypeError: If a ``score`` returns something else than tensors by name.
        ValueError: If an option is out of range or differs between processes, a ``score`` returns something else than
            scores of all groups, the optimizer is not known, a parameter
            has no initialiser, a reset would write a parameter that is frozen, that the optimizer does not train, that
            has no values or whose entries share their memory, or another wrapper resets the same parameters after steps
            of the same optimizer.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 1))
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> regrama = ReGraMa(model, optimizer, example_inputs=torch.zeros(8, 3), every=1)
        >>> model(torch.ones(8, 3)).sum().backward()
        >>> optimizer.step()
        >>> regrama.last_report["0"].neurons
        64

    References:
        Liu et al., "Measure gradients, not activations! Enhancing neuronal activity in deep reinforcement learning",
        NeurIPS 2025, arXiv:2505.24061, Algorithm 1.

    Notes:
        What the optimizer trains is looked up at every measurement, by identity: parameters that were frozen, replaced
        or added since are named in a warning, and what is not trained is not written. A copy made by ``copy.deepcopy``
        or pickle has lost its hook and the functions it was given; attach a new wrapper and load the state.

        A clock of one's own concerns Adam, AdamW (with AMSGrad too), NAdam, RAdam and Adamax, whose step counts correct
        the bias of moments; no other optimizer of ``torch.optim`` needs one. Of an optimizer that ``moments`` describe
        it is not known what its count does: it goes by the run's, and a warning says so.
    """

    _signal, _own_score = "weights", staticmethod(na.grama)

    def _signals(self) -> dict[str, Tensor | None]:
        kept, trained = self._gradients, self._trained
        return {n: kept.get(id(p), dense_gradient(p)) if n in trained else None for n, p in self._params.items()}


class ReDo(Resetter):
    """Resets the neurons whose activations have vanished, while the model trains.

    Like :class:`ReGraMa`, but neurons are scored by :func:`neuroactivity.tau_dormant` on the activations of a batch
    that ``probe`` returns.

    Args:
        model: The model, as for :class:`ReGraMa`.
        optimizer: Its optimizer.
        probe: Returns the model's inputs, one or a tuple; called when the wrapper is made, to find out which groups can
            be measured, and then when a measurement is due. If it raises the first time, as an empty replay buffer
            does, ``example_inputs`` are tried instead.
        example_inputs: As for :class:`ReGraMa`, and so are ``layout`` and ``moments``.
        layout: The neuron groups.
        tau: Threshold on the score.
        moments: What an optimizer outside ``torch.optim`` starts with.
        process_group: As for :class:`ReGraMa`. Sums of activations are added over these processes, so each may have a
            probe of its own.
        check_ranks: As for :class:`ReGraMa`.
        options: The other options of :class:`ReGraMa`, with the same defaults. With ``batches`` the probe is called at
            each of these steps. A ``score`` takes the place of :func:`neuroactivity.tau_dormant` and gets activations
            by group name; the mean of what it returns on the processes counts.

    References:
        Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023, arXiv:2302.12902.
    """

    _reads_outputs = True
    _signal, _own_score = "activations", staticmethod(na.tau_dormant)

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        probe: Callable[[], tuple[Any, ...] | Tensor],
        example_inputs: tuple[Any, ...] | Tensor = (),
        layout: na.Layout | None = None,
        tau: float = 0.02,
        moments: Mapping[str, Moment] | None = None,
        process_group: ProcessGroup | Literal[False] | None = None,
        check_ranks: bool = False,
        **options: Unpack[Options],
    ) -> None:
        ranks: dict[str, Any] = {"process_group": process_group, "check_ranks": check_ranks}
        super().__init__(
            model, optimizer, example_inputs=example_inputs, layout=layout, tau=tau, moments=moments, **ranks, **options
        )
        self._probe = Probe(probe, self._ranks)
        try:
            if outputs := self._probe.try_out(self.model, self._trained_layout, example_inputs):
                self._try_score(outputs)
        except BaseException:
            self.detach()
            raise

    def _signals(self) -> dict[str, Tensor | None]:
        return self._probe.outputs(self.model, self._trained_layout)

    def _magnitudes(self, signals: Mapping[str, Tensor | None], layout: na.Layout) -> dict[str, Tensor]:
        measure = partial(super()._magnitudes, signals, layout)
        if not self._ranks:
            return measure()
        means = measure() if self.options.score is None else self._ranks.together(measure, "score")
        counts = {name: value.numel() // means[name].numel() for name, value in signals.items() if value is not None}
        return self._ranks.add_means(means, counts, self._score_shapes(layout))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_probe"}
