"""Neuron outputs, as the layers that read them see them."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity import Layout, NeuronGroup, ParamView
from neuroactivity.layout.patterns import parse
from neuroactivity.wrapping import join_neurons, read_by_norms
from neuroactivity_torch.arranging import in_form, part_read, put_together
from neuroactivity_torch.devices import reshard, unwrapped
from neuroactivity_torch.following import Follower
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.operations import tensors_in
from neuroactivity_torch.parameters import parameters, undisturbed
from neuroactivity_torch.readers import RECURRENT, input_of, is_known, layer_of, makes_alone, owners_of, plain
from neuroactivity_torch.tracks import memory_of


def activations(model: nn.Module, *inputs: Any, layout: na.Layout | None = None) -> dict[str, Tensor | None]:
    """Run a model and return its neurons' outputs as the next layers read them, after the activation function.

    The model runs once, eagerly, in evaluation mode and without gradients. Its mode, buffers and hooks and the random
    generators are left as they were.

    Args:
        model: The model.
        inputs: What the model is called with.
        layout: The neuron groups, by default those that ``layout_of`` discovers. A group is read at the inputs of the
            modules that hold its outgoing parameters. A group without any is followed from its own module to where it
            is read: behind the activation function, if one follows; where it is added to a residual stream, what it
            adds.

    Returns:
        Copies of the outputs by group name, in the form of the group's activation pattern, for
        :func:`neuroactivity.tau_dormant`; ``None`` for a group whose outputs cannot be told: the inside of attention or
        of a recurrent layer with several layers, or what is done to them cannot be followed. What a layer returns
        before its activation function is never returned for what the function returns.

    Raises:
        LayoutError: If a group's outgoing parameters do not have its neurons, or its activation pattern has no place
            for what was read.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> {name: tuple(value.shape) for name, value in activations(model, torch.ones(5, 3)).items()}
        {'0': (5, 4), '2': (5, 2)}
    """
    model = unwrapped(model)
    layout = layout_of(model, *inputs) if layout is None else layout
    outputs, errors = read_activations(model, inputs, layout)
    for error in errors.values():
        raise error
    return outputs


def read_activations(
    model: nn.Module, inputs: tuple[Any, ...], layout: na.Layout
) -> tuple[dict[str, Tensor | None], dict[str, na.LayoutError]]:
    """Do what :func:`activations` does, but return the errors of groups, whose outputs are ``None``, by their names."""
    norms = read_by_norms(layout)
    layout = Layout([replace(g, outgoing=()) if name in norms else g for name, g in layout.items()])
    run, shapes = _run(model, inputs, layout), {name: tuple(p.shape) for name, p in parameters(model).items()}
    outputs: dict[str, Tensor | None] = dict.fromkeys(layout)
    errors = {}
    for name, group in layout.items():
        try:
            outputs[name] = _outputs(model, group, run, shapes)
        except na.LayoutError as error:
            errors[name] = error
    return outputs, errors


class _Call(NamedTuple):
    """What a parameter read in one call of its module."""

    module: nn.Module
    values: Tensor
    certain: bool
    groups: frozenset[str]


class _Run:
    """What was seen while a model ran."""

    def __init__(self, model: nn.Module, layout: na.Layout) -> None:
        named = dict(model.named_parameters())
        own = {
            name: {memory_of(named[view.param]) for view in group.incoming + group.unscored if view.param in named}
            for name, group in layout.items()
        }
        self.follower = Follower(own, named.values())
        self.named, self.calls = named, dict[str, list[_Call]]()
        self.returned: dict[str, list[Tensor]] = {}


def _readers(model: nn.Module, group: NeuronGroup) -> list[ParamView]:
    """Return the outgoing views that other modules hold."""
    maker = layer_of(model, group.incoming[0].param)
    return [view for view in group.outgoing if layer_of(model, view.param) is not maker]


def _run(model: nn.Module, inputs: tuple[Any, ...], layout: na.Layout) -> _Run:
    """Run a model and watch it; once more and less closely if it does not run while its operations are watched."""
    run = _Run(model, layout)
    try:
        with _listening(model, layout, run), plainly(model), _judging(model), run.follower:
            run.follower.enter(tensors_in((inputs, list(model.buffers()))))
            outputs = model(*inputs)
        for tensor in _tensors(outputs):
            run.follower.read(tensor)
    except Exception:
        run = _Run(model, layout)
        with _listening(model, layout, run), plainly(model), _judging(model):
            model(*inputs)
    return run


@contextmanager
def plainly(model: nn.Module) -> Iterator[None]:
    """Let a model run without compiled code or fused layers, which show nothing to hooks, and leave it as it was."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(reshard, model)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        with undisturbed(model):
            yield


@contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    """Let a model run in evaluation mode and without gradients."""
    with torch.no_grad():
        model.eval()
        yield


@contextmanager
def _listening(model: nn.Module, layout: na.Layout, run: _Run) -> Iterator[None]:
    """Hook onto the modules that make neurons and those that read them."""
    named = dict(model.named_parameters())
    read: dict[nn.Module, set[str]] = {}
    made: dict[nn.Module, list[NeuronGroup]] = {}
    shapes = {name: tuple(value.shape) for name, value in named.items()}
    for group in layout.values():
        for view in _readers(model, group):
            read.setdefault(layer_of(model, view.param), set()).add(view.param)
        if makes_alone(model, group):
            made.setdefault(layer_of(model, group.incoming[0].param), []).append(group)

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        certain = is_known(module)
        for param in sorted(read[module]):
            tensor = input_of(module, param, args, kwargs)
            if tensor is None:
                continue
            if not certain:
                run.follower.expect(tensor, named[param])
            held = frozenset(name for name in layout if run.follower.holds(name, tensor))
            run.calls.setdefault(param, []).append(_Call(module, tensor.detach().clone(), certain, held))

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        tensor = plain(output)
        if tensor is None:
            return
        for group in made[module]:
            if isinstance(module, RECURRENT):
                run.returned.setdefault(group.name, []).append(tensor.detach().clone())
            owners = owners_of(module, group, tensor, group.count(shapes))
            if owners is not None:
                run.follower.start(group.name, tensor, owners, tensors_in((args, kwargs)))

    with ExitStack() as stack:
        for module in read:
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
        for module in made:
            stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        yield


def _tensors(output: Any, depth: int = 4) -> Iterator[Tensor]:
    """Yield the tensors of an output, inside containers and objects such as distributions too."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple | Mapping):
        for value in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(value, depth)
    elif depth and hasattr(output, "__dict__") and not isinstance(output, type | nn.Module):
        yield from _tensors(list(vars(output).values()), depth - 1)


def _outputs(model: nn.Module, group: NeuronGroup, run: _Run, shapes: Mapping[str, tuple[int, ...]]) -> Tensor | None:
    """Return a group's outputs in the form that its activation pattern names, if they were seen."""
    neurons, where = group.count(shapes), ""
    for view in _readers(model, group)[:1]:
        where = f", read at the input of {view.param!r}"
    try:
        values: Tensor | None = _read(model, group, run, neurons, shapes)
        if values is None:
            values = _followed(group, run, neurons)
        return None if values is None else in_form(values, group, neurons)
    except na.LayoutError as error:
        raise na.LayoutError(f"group {group.name!r}, activation {group.activation!r}{where}: {error}") from None


def _read(
    model: nn.Module, group: NeuronGroup, run: _Run, neurons: int, shapes: Mapping[str, tuple[int, ...]]
) -> Tensor | None:
    """Put together what the modules behind a group read."""
    pattern, parts = parse(group.activation), []
    for view in _readers(model, group):
        calls = run.calls.get(view.param, [])
        calls = [call for call in calls if group.name in call.groups] or calls
        if not all(call.certain or run.follower.is_as_expected(run.named[view.param]) for call in calls):
            return None
        for call in calls:
            part = part_read(call.module, call.values, view, neurons, pattern, shapes[view.param])
            if part is None:
                return None
            parts.append(part)
        whole: Tensor | None = join_neurons(parts, neurons, samples_axis=pattern.stacks)
        if whole is not None:
            return whole
    return None


def _followed(group: NeuronGroup, run: _Run, neurons: int) -> Tensor | None:
    """Put together where a group was read that was followed from its layer."""
    returned = run.returned.get(group.name)
    if returned is None:
        return put_together(group, run.follower.seen(group.name), neurons)
    values: Tensor | None = join_neurons([(values, tuple(range(neurons))) for values in returned], neurons)
    return values
