"""What of a wrapper is saved, and what a saved one is checked for before anything is set."""

from collections.abc import Mapping
from typing import Any

from neuroactivity.wrapping import (
    COUNTS,
    check_same_layout,
    check_same_score,
    read_counts,
    undivided,
    written_params,
)
from neuroactivity_torch.attaching import Attached
from neuroactivity_torch.clock import Clock, corrects_bias, read_clock
from neuroactivity_torch.devices import whole
from neuroactivity_torch.measurements import Joined
from neuroactivity_torch.memory import Memory, read_arrays, read_batches


class SavedWrapper(Attached):
    """A wrapper whose state can be saved and loaded."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as numbers, JSON values and tensors that share no memory with the wrapper.

        These are the counts, the layout, the name of a score of the user's, the snapshot if there is one, when each
        neuron was reset, sums of magnitudes, and the entries that go by their own clock.

        Give a resumed run's wrapper ``layout=na.Layout.from_dict(state["layout"])``, and it does not search again.
        """
        snapshot = self._fresh.snapshot
        copied = None if snapshot is None else {name: whole(value).clone() for name, value in snapshot.items()}
        counts: dict[str, Any] = {name: getattr(self, name) for name in COUNTS}
        counts |= self._memory.state(self.layout)
        params = dict(self.model.named_parameters())
        clock = self._clock.state({n: params[n] for n in written_params(self.layout, self.layout) if n in params})
        told = {"layout": self.layout.to_dict(), "score": self._scored_by, "clock": clock}
        return {**counts, "snapshot": copied, **told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that :meth:`state_dict` returned; everything is checked before anything is set.

        Raises:
            ValueError: If the state is not of this form, holds another layout or score, or a snapshot where none is
                used, or the reverse.
        """
        expected = {*COUNTS, "snapshot"}
        later = {"layout", "score", "since", "sums", "batches", "clock"}  # older versions had none of them
        keys = set(state) if isinstance(state, Mapping) else type(state)
        if not isinstance(keys, set) or not expected <= keys <= expected | later:
            shown = sorted(map(str, keys)) if isinstance(keys, set) else keys.__name__
            raise ValueError(f"state: expected the keys {sorted(expected)} and {', '.join(later)}, got {shown}")
        counts, params = read_counts(state), dict(self.model.named_parameters())
        check_same_layout(state.get("layout"), self.layout)
        check_same_score(state.get("score", ""), self._scored_by)
        arrays = read_arrays(state, self.layout, {name: tuple(value.shape) for name, value in params.items()})
        batches = read_batches(state, arrays["sums"])
        young = read_clock(state.get("clock", {}), params)
        corrected = self._corrected()
        young = {name: ages for name, ages in young.items() if id(params[name]) in corrected or not self._steppers}
        snapshot = self._fresh.check_snapshot(state["snapshot"])
        with undivided():
            vars(self).update(counts)
            self._fresh.snapshot, self._clock = snapshot, Clock(young)
            self._memory = Memory(arrays["sums"], batches, Joined.of(arrays["since"]))

    def _corrected(self) -> set[int]:
        """The parameters, by identity, of optimizers that correct a bias by their step count."""
        return {number for stepper in self._steppers if corrects_bias(stepper) for number in stepper.holds()}
