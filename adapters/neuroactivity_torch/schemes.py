"""How a layer initialises its parameters, entry by entry, found out without drawing a number."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class Scheme(NamedTuple):
    """One distribution of all entries of a parameter.

    Attributes:
        kind: ``"uniform"`` with its bounds, ``"normal"`` with mean and standard deviation, or ``"constant"``.
        values: The two numbers, or the one.
    """

    kind: str
    values: tuple[float, ...]

    def of_uniform(self, uniform: Tensor) -> Tensor:
        """Turn numbers that are uniform in ``(0, 1)`` into numbers of this distribution, in place."""
        first, second = self.values
        if self.kind == "uniform":
            return uniform.mul_(second - first).add_(first)
        normal: Tensor = torch.special.ndtri(uniform)
        return normal.mul_(second).add_(first)


class Draw(NamedTuple):
    """Rows of a parameter that are to be drawn.

    Attributes:
        scheme: Their distribution.
        key: A whole number in ``[0, 2**63)``.
        starts: Where in the flat parameter each row begins.
        steps: How far behind that each of a row's entries is. What is drawn for an entry depends on the key and on its
            place alone.
        shape: The shape of a row.
        like: A tensor of the dtype and on the device of the rows.
    """

    scheme: Scheme
    key: int
    starts: Tensor
    steps: Tensor
    shape: Sequence[int]
    like: Tensor


def draw_rows(draws: Sequence[Draw]) -> list[Tensor]:
    """Draw the rows of several parameters."""
    rows = [draw.like.new_empty((len(draw.starts), *draw.shape)) for draw in draws]
    batch: list[tuple[Draw, Tensor, Tensor]] = []
    drawn = 0
    for draw, values in zip(draws, rows, strict=True):
        if draw.scheme.kind == "constant":
            values.fill_(*draw.scheme.values)
            continue
        starts, most = draw.starts.add(draw.key), max(1, _CHUNK // max(1, len(draw.steps)))
        for first in range(0, len(values), most):
            chunk = values[first : first + most]
            if batch and (drawn + chunk.numel() > _CHUNK or batch[-1][1].device != chunk.device):
                _draw_batch(batch)
                batch, drawn = [], 0
            batch.append((draw, chunk, starts[first : first + most]))
            drawn += chunk.numel()
    if batch:
        _draw_batch(batch)
    return rows


def _draw_batch(batch: Sequence[tuple[Draw, Tensor, Tensor]]) -> None:
    """Draw the rows of several parameters at once, since each operation takes longer to start than to run."""
    sizes = [values.numel() for _, values, _ in batch]
    places = torch.empty(sum(sizes), dtype=torch.int64, device=batch[0][1].device)
    for (draw, _, starts), part in zip(batch, places.split_with_sizes(sizes), strict=True):
        torch.add(starts[:, None], draw.steps, out=part.view(len(starts), -1))
    uniform = random_bits(places).bitwise_right_shift_(11).bitwise_and_(2**53 - 1).double().add_(0.5).mul_(2.0**-53)
    for (draw, values, _), part in zip(batch, uniform.split_with_sizes(sizes), strict=True):
        values.copy_(draw.scheme.of_uniform(part).view(values.shape))


_GOLDEN = -0x61C8864680B583EB  # 2**64 over the golden ratio, as a signed number
_FACTORS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)
_CHUNK = 2**16  # entries that are drawn at once, so that a draw takes little memory


def random_bits(x: Tensor) -> Tensor:
    """Turn places in a sequence into its random bits, in place: SplitMix64 (Steele, Lea and Flood, 2014)."""
    x *= _GOLDEN
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        x ^= (x >> shift) & (2 ** (64 - shift) - 1)
        x *= factor
    x ^= (x >> 31) & (2**33 - 1)
    return x


class _Recorder(TorchDispatchMode):
    """Notes what is written into tensors that have no memory."""

    def __init__(self, params: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._params = params
        self._names = {value.untyped_storage()._cdata: name for name, value in params.items()}
        self.found: dict[str, Scheme | None] = {}

    def holds(self, name: str, value: Tensor) -> bool:
        """Whether a parameter still has the memory that was watched."""
        return self._names.get(value.untyped_storage()._cdata) == name

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        named = dict(zip([argument.name for argument in operation._schema.arguments], args, strict=False))
        named |= kwargs or {}  # out= among them
        for argument in operation._schema.arguments:
            given: Any = named.get(argument.name)
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            for value in given if isinstance(given, list | tuple) else [given]:
                memory = value.untyped_storage()._cdata if isinstance(value, Tensor) else None
                if (name := self._names.get(memory)) is not None:
                    whole = value is given and given.numel() == self._params[name].numel()
                    self.found[name] = _scheme(operation, args[1:], kwargs or {}) if whole else None
        return result


def _scheme(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scheme | None:
    """What an operation fills a tensor with."""
    given = [argument.name for argument in operation._schema.arguments[1:]]
    defaults = {argument.name: argument.default_value for argument in operation._schema.arguments[1:]}
    named = defaults | dict(zip(given, args, strict=False)) | kwargs
    match operation._overloadpacket.__name__:
        case "uniform_":
            return Scheme("uniform", (named["from"], named["to"]))
        case "normal_":
            return Scheme("normal", (named["mean"], named["std"]))
        case "zero_":
            return Scheme("constant", (0.0,))
        case "fill_" if isinstance(named["value"], int | float):
            return Scheme("constant", (float(named["value"]),))
    return None


def schemes(module: nn.Module, initialise: Callable[[], Any]) -> dict[str, Scheme]:
    """Return how a function initialises a module's own parameters, where it draws all their entries alike.

    Args:
        module: A module whose parameters are on the meta device.
        initialise: Its method that initialises them.
    """
    params = {name: value for name, value in module._parameters.items() if value is not None}
    try:
        with torch.no_grad(), _Recorder(params) as recorder:
            initialise()
    except Exception:  # it needs numbers, so it is no scheme of this kind
        return {}
    kept = [n for n, value in params.items() if module._parameters.get(n) is value and recorder.holds(n, value)]
    return {name: scheme for name in kept if (scheme := recorder.found.get(name)) is not None}
