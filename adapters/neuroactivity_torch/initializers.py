"""Fresh parameter values: from the layers' own initialisers, a snapshot of the start, or the user's function.

Every draw has its own key and its own generator; the global generators are left as they were.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity.arrays import check_like
from neuroactivity.layout.patterns import ANY, STACK
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import (
    check_fresh,
    check_initializer,
    check_seed,
    derive_key,
    drawn_views,
    resample,
    warn_of_spread,
)
from neuroactivity_torch.parameters import owner_of, parameters

Initializer: TypeAlias = Literal["layer", "snapshot"] | Callable[[int], Mapping[str, Tensor]]
"""``"layer"``, ``"snapshot"``, or a function from a key to freshly initialised parameters by name."""

_INSTEAD = "use initializer='snapshot' or a function from a key to fresh parameters"


class FreshValues:
    """Draws fresh values for the parameters of neurons that are reset.

    Args:
        model: The model.
        layout: Its neuron groups.
        initializer: ``"layer"`` calls the ``reset_parameters`` of the module that holds the parameter, on a copy.
            ``"snapshot"`` draws rows at random from the values that the model has now. A function gets a key, an
            integer, while PyTorch's CPU generator is seeded with it, and returns fresh parameters by name.
        seed: Seed of all draws.
        outgoing: What a reset makes of outgoing parameters, which are drawn too where it needs fresh values of them.
        compare: Whether to warn if the layers' own initialisers draw another spread than the model's values have.

    Attributes:
        snapshot: The values that rows are drawn from, by parameter name; ``None`` for another initializer.

    Raises:
        ValueError: If the initializer or the seed is not of these, a parameter has no initialiser, or a fresh value is
            missing or does not fit its parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: na.Layout,
        initializer: Initializer,
        *,
        seed: int,
        outgoing: Outgoing = "zero",
        compare: bool = False,
    ) -> None:
        check_initializer(initializer, "layer", "snapshot")
        self._model, self._seed = model, check_seed(seed)
        self._initializer: Initializer | None = initializer
        self.snapshot: dict[str, Tensor] | None = {} if initializer == "snapshot" else None
        fresh = self.cover(layout, outgoing)
        if compare and initializer == "layer":
            warn_of_spread(fresh, parameters(model), stacklevel=3)

    def cover(self, layout: na.Layout, outgoing: Outgoing) -> dict[str, Tensor]:
        """Draw for the groups of this layout from now on; return a draw that shows that it can be done."""
        params = parameters(self._model)
        shapes = {name: tuple(value.shape) for name, value in params.items()}
        self._views = drawn_views(layout, shapes, outgoing=outgoing)
        if self.snapshot is not None:
            kept = {n: value for n, value in self.snapshot.items() if n in params and value.shape == params[n].shape}
            self.snapshot = {name: params[name].clone() for name in self._views} | kept
        return self.draw(event=0, names=self._views)

    def check_snapshot(self, snapshot: Any) -> dict[str, Tensor] | None:
        """Return a copy of a saved snapshot.

        Raises:
            ValueError: If it does not fit the model, or is given where none is used, or the reverse.
        """
        fits = isinstance(snapshot, Mapping) if self.snapshot is not None else snapshot is None
        if not fits or set(self._views if self.snapshot is not None else ()) - set(snapshot or ()):
            raise ValueError("state: its snapshot does not hold the parameters that this initializer needs")
        params = parameters(self._model)
        for name, value in (snapshot or {}).items():
            if name not in params:
                raise ValueError(f"state: its snapshot holds {name!r}, which is no parameter of the model")
            check_like(value, params[name], f"state: snapshot of parameter {name!r}")
        return None if snapshot is None else {n: v.detach().clone().to(params[n].device) for n, v in snapshot.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the user's function: few can be pickled, and a copy has lost its hook anyway."""
        return vars(self) | {"_initializer": None if callable(self._initializer) else self._initializer}

    def draw(self, event: int, names: Iterable[str]) -> dict[str, Tensor]:
        """Draw fresh values for the named parameters, on their devices.

        Args:
            event: Number of the reset.
            names: Names of parameters; those that no reset draws anew are skipped.
        """
        names, params = [name for name in names if name in self._views], parameters(self._model)
        fresh: Mapping[str, Tensor]
        if self.snapshot is not None:
            fresh = {name: self._resample(name, self.snapshot[name].to(params[name]), event) for name in names}
        elif callable(self._initializer):
            key = derive_key(self._seed, event, "")
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                torch.default_generator.manual_seed(key)
                fresh = self._initializer(key)
        else:
            fresh = {name: self._reinitialise(name, event) for name in names}
        check_fresh(fresh, params, names)
        return {name: fresh[name].detach().to(params[name].device) for name in names}

    def _reinitialise(self, name: str, event: int) -> Tensor:
        """Run the initialiser of the module that holds a parameter, on a copy."""
        owner, key = owner_of(self._model, name), name.rpartition(".")[2]
        method = next((known for known in ("reset_parameters", "_reset_parameters") if hasattr(owner, known)), None)
        if method is None:
            what = f"{type(owner).__name__} has no reset_parameters(), so initializer='layer' cannot draw fresh values"
            raise ValueError(f"parameter {name!r}: {what} for it; {_INSTEAD}")
        prefix = name.removesuffix(key)
        stacks = {
            held: self._stack_axes(prefix + held) for held, value in owner._parameters.items() if value is not None
        }
        if not str(getattr(getattr(owner, method), "__module__", "")).startswith("torch.nn."):
            stacks = {}  # only PyTorch's own initialisers are sure to know of none
        module, axes = _skeleton(owner, stacks), stacks.get(key, ())
        sizes = [owner.get_parameter(key).shape[axis] for axis in axes]
        members = []
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(derive_key(self._seed, event, name))
            for _ in range(math.prod(sizes)):
                getattr(module, method)()
                members.append(module.get_parameter(key).detach().clone())
        if any(bool(member.isnan().any()) for member in members):
            what = f"{type(owner).__name__}.{method}() does not initialise it"
            raise ValueError(f"parameter {name!r}: {what}; {_INSTEAD}")
        if not axes:
            return members[0]
        values = torch.stack(members).reshape(*sizes, *members[0].shape)
        return values.movedim(tuple(range(len(axes))), axes)

    def _stack_axes(self, name: str) -> tuple[int, ...]:
        """The axes of a parameter that count copies of its layer, and nothing else."""
        if name not in self._views:
            return ()
        axes = self._views[name][0][0].parsed.axes
        end = axes.index((ANY,)) if (ANY,) in axes else len(axes)
        return tuple([i if i < end else i - len(axes) for i, names in enumerate(axes) if names == (STACK,)])

    def _resample(self, name: str, values: Tensor, event: int) -> Tensor:
        """Give each neuron the snapshot's entries of a neuron drawn at random."""
        generator = torch.Generator("cpu").manual_seed(derive_key(self._seed, event, name))

        def donors(neurons: int, number: int) -> Tensor:
            return torch.randint(neurons, (neurons,), generator=generator, device="cpu").to(values.device)

        exchanged: Tensor = resample(values, self._views[name], donors)
        return exchanged


def _skeleton(module: nn.Module, stacks: Mapping[str, tuple[int, ...]] | None = None) -> nn.Module:
    """Copy a module with empty parameters on the CPU, sharing everything else; hooks and values stay untouched.

    ``stacks`` names axes of its own parameters that the copy is to do without.
    """
    copy = type(module).__new__(type(module))
    copy.__dict__ = dict(module.__dict__)
    copy.__dict__["_parameters"] = {
        name: None if value is None else _empty(value, (stacks or {}).get(name, ()))
        for name, value in module._parameters.items()
    }
    copy.__dict__["_buffers"] = {
        name: None if value is None else value.detach().to("cpu", copy=True) for name, value in module._buffers.items()
    }
    copy.__dict__["_modules"] = {
        name: None if child is None else _skeleton(child) for name, child in module._modules.items()
    }
    return copy


def _empty(parameter: nn.Parameter, without: tuple[int, ...]) -> nn.Parameter:
    """Make a parameter of NaN on the CPU, like another one but for some axes: what is not initialised shows."""
    left_out = {axis % parameter.ndim for axis in without}
    shape = [size for axis, size in enumerate(parameter.shape) if axis not in left_out]
    empty = torch.zeros(shape, dtype=parameter.dtype, device="cpu")
    return nn.Parameter(empty.fill_(math.nan) if empty.is_floating_point() else empty, parameter.requires_grad)
