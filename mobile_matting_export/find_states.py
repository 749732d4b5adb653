"""Find what a stranger's network takes beside the image, and where each map comes from on the frame before.

Further parameters of ``forward`` that have no default are maps, fed back from frame to frame. One that is not declared
is the previous alpha, 1x1xHxW. Others are declared in a dict ``state_inputs`` on the network, by parameter::

    class Recurrent(nn.Module):
        state_inputs = {"hidden": (16, 1 / 4)}  # channels, size as a part of the image's

        def forward(self, image, hidden):
            ...
            return alpha, hidden  # or {"alpha": alpha, "hidden": hidden}

``forward`` returns the new values of declared states: in a tuple, behind everything else, in the order of its
parameters; in a dict, under their names. ``(channels, height, width)`` says an exact size. ``"alpha"`` declares a
previous alpha, for networks that return more than alpha and no states. A parameter with a default is an input only
where it is declared. All states are zero on the first frame.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mobile_matting_export.errors import UsageError
from mobile_matting_export.networks.spec import StateSpec

DECLARATION = "state_inputs"
"""The attribute of a network that says what its further inputs are."""

_TAKEN = ("image", "alpha")
_WHOLE = 1e-6  # how far a side of a state may be from a whole number
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def find_states(net: nn.Module, size: tuple[int, int]) -> tuple[StateSpec, ...]:
    """The states of ``net``, in the order of ``forward``'s parameters; see the module.

    Args:
        net: a stranger's network.
        size: (H, W) of the image.

    Raises:
        UsageError: the declaration is none, or names a parameter that ``forward`` does not have, or a
            parameter has the name of the image or of alpha.
    """
    declared = getattr(net, DECLARATION, {})
    if not isinstance(declared, Mapping):
        raise UsageError(f"{type(net).__name__}.{DECLARATION} is {declared!r}, not a dict: write {_example('hidden')}")
    parameters = _further_parameters(net)
    unknown = [name for name in declared if name not in parameters]
    if unknown:
        raise UsageError(
            f"{DECLARATION} of {type(net).__name__} names {unknown[0]!r}, which its forward does not take beside the "
            f"image: {', '.join(parameters) or 'nothing'}"
        )
    names = [name for name, is_needed in parameters.items() if is_needed or name in declared]
    states = []
    for name in names:
        source = f"next_{name}"
        if name in _TAKEN or source in names:
            raise UsageError(f"forward of {type(net).__name__} calls a state {name!r}: rename it, files need that name")
        states.append(_state(net, name, declared.get(name, "alpha"), size))
    return tuple(states)


def _further_parameters(net: nn.Module) -> dict[str, bool]:
    """Names of ``forward``'s parameters behind the first, and whether each must be given."""
    try:
        parameters = list(inspect.signature(net.forward).parameters.values())[1:]
    except (TypeError, ValueError):  # written in C, or generated
        return {}
    empty = inspect.Parameter.empty
    return {one.name: one.default is empty for one in parameters if one.kind in _NAMED}


def _state(net: nn.Module, name: str, declared: Any, size: tuple[int, int]) -> StateSpec:
    if declared == "alpha":
        return StateSpec(name, enters="argument")
    match declared:
        case (int(channels), int(height), int(width)) if min(channels, height, width) > 0:
            return StateSpec(name, channels, f"next_{name}", size=(height, width), enters="argument")
        case (int(channels), int() | float() as scale) if channels > 0 and 0 < scale <= 1:
            return StateSpec(name, channels, f"next_{name}", size=_scaled(name, size, scale), enters="argument")
    raise UsageError(f"state {name} of {type(net).__name__} is declared as {declared!r}: write {_example(name)}")


def _scaled(name: str, size: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (side * scale for side in size)
    if max(abs(height - round(height)), abs(width - round(width))) > _WHOLE or min(height, width) < 1 - _WHOLE:
        raise UsageError(
            f"state {name} is declared as {scale:g} of the image, of {size[0]}x{size[1]} is {height:g}x{width:g}; "
            "choose a --size that fits, or declare (channels, height, width)"
        )
    return round(height), round(width)


def split_states(
    result: object, states: tuple[StateSpec, ...], size: tuple[int, int] | None = None
) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """What ``forward`` returned, without the new values of states, and these; see the module.

    Args:
        result: of ``forward``.
        states: as found; those fed from alpha have no result of their own.
        size: (H, W) of the image, to check the shapes by; None where that was done before.

    Raises:
        UsageError: a new value is missing, or is no finite float32 map of the state's shape.
    """
    returned = [state for state in states if state.source != "alpha"]
    if not returned:
        return result, ()
    names = [state.name for state in returned]
    found: list[Any]
    rest: Any
    if isinstance(result, Mapping) and set(names) <= set(result):
        found = [result[name] for name in names]
        rest = {name: value for name, value in result.items() if name not in names}
    elif isinstance(result, (tuple, list)) and len(result) > len(names):
        rest, found = result[: -len(names)], list(result[-len(names) :])
    else:
        what = f"a dict of {', '.join(map(str, result))}" if isinstance(result, Mapping) else "no tuple that long"
        raise UsageError(
            f"{DECLARATION} declares {', '.join(names)}, but the network returns {what}: return the new values behind "
            f"alpha, as in `return alpha, {', '.join(names)}`, or in a dict under these names; "
            '"alpha" in place of the size says that it is the previous alpha'
        )
    for state, value in zip(returned, found, strict=True):
        if size is not None:
            _check_value(state, value, state.shape(size))
    return rest, tuple(found)


def _check_value(state: StateSpec, value: object, declared: tuple[int, ...]) -> None:
    is_map = isinstance(value, torch.Tensor) and value.dtype == torch.float32
    if not isinstance(value, torch.Tensor) or not is_map or tuple(value.shape) != declared:
        found = type(value).__name__
        if isinstance(value, torch.Tensor):
            found = f"{'x'.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}"
        raise UsageError(
            f"the network returns {found} as the new value of {state.name}, which is declared as "
            f"{'x'.join(map(str, declared))} float32: correct {DECLARATION}, or the order of the results (states stand "
            "last, in the order of forward's parameters)"
        )
    if not torch.isfinite(value).all():
        raise UsageError(f"the network returns NaN or infinity as the new value of {state.name} on a photograph")


def require_told_apart(net: nn.Module, states: tuple[StateSpec, ...], rest: object) -> None:
    """Refuse a network that returns several results and does not say whether its inputs are fed from them.

    Args:
        net: a stranger's network.
        states: as found.
        rest: what ``forward`` returned without the new values of declared states.

    Raises:
        UsageError: with both ways to say it.
    """
    declared = getattr(net, DECLARATION, {})
    open_ones = [state.name for state in states if state.name not in declared]
    if open_ones and isinstance(rest, (Mapping, tuple, list)) and len(rest) > 1:
        name = open_ones[0]
        raise UsageError(
            f"forward of {type(net).__name__} takes {name} and returns {len(rest)} results: say on the network where "
            f'{name} comes from: {_example(name)} where it is returned, {DECLARATION} = {{"{name}": "alpha"}} where it '
            "is the previous alpha"
        )


def describe_states(states: tuple[StateSpec, ...]) -> str:
    """What was found, for people to check; empty for a network without states."""
    sizes = ["HxW" if state.size is None else f"{state.size[0]}x{state.size[1]}" for state in states]
    return "".join(
        f"; {state.name} 1x{state.channels}x{size} is the {state.source} of the frame before"
        for state, size in zip(states, sizes, strict=True)
    )


def explain_states(states: tuple[StateSpec, ...]) -> str:
    """What to write where ``forward`` does not take the states as found; empty for a network without any."""
    undeclared = [state.name for state in states if state.source == "alpha"]
    if not undeclared:
        return ""
    return (
        f". Its forward takes {undeclared[0]}, which was given as the previous alpha, 1x1xHxW: if it is another map, "
        f"say so on the network: {_example(undeclared[0])}; if it is no map, give it a default"
    )


def _example(name: str) -> str:
    return f'{DECLARATION} = {{"{name}": (16, 1 / 4)}} (channels, size as a part of the image\'s)'
