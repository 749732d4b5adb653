"""Wrap any network so that it returns one alpha matte in [0, 1] at input size, and its states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mobile_matting_export.errors import UsageError
from mobile_matting_export.find_states import describe_states, explain_states, require_told_apart, split_states
from mobile_matting_export.networks.spec import Head, ImageSpec, StateSpec


class AlphaNetwork(nn.Module):
    """``net`` behind its head: image (and states) in, alpha (and states) out.

    forward takes the image, 1xCxHxW float32, and one map per state input; they are concatenated
    in that order. It returns alpha, 1x1xHxW float32 in [0, 1]. With ``takes_pixels_of`` the image is RGB
    0..255, and the network's normalization is computed here, to the same bits as outside.
    ``states`` are those that ``net`` takes as arguments (``find_states``); where it returns new values
    of some, these stand behind alpha in a tuple, in the order of ``states``.
    """

    def __init__(
        self,
        net: nn.Module,
        head: Head,
        takes_pixels_of: ImageSpec | None = None,
        states: tuple[StateSpec, ...] = (),
    ) -> None:
        super().__init__()
        self.net = net
        self.head = head
        self.takes_pixels_of = takes_pixels_of
        self.states = states
        if takes_pixels_of is not None:  # not persistent: no part of the network's weights
            for name in ("mean", "scale"):
                numbers = torch.tensor(getattr(takes_pixels_of, name), dtype=torch.float32)
                self.register_buffer(name, numbers.view(1, -1, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor, *states: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Alpha of one frame, and its states; see the class."""
        if self.takes_pixels_of is not None:
            ordered = image.flip(1) if self.takes_pixels_of.color == "BGR" else image
            image = (ordered - self.mean) * self.scale
        if self.states:
            result = _call(self.net, image, self.states, states)
        else:
            result = self.net(torch.cat([image, *states], dim=1) if states else image)
        maps, following = split_states(result, self.states)
        alpha = to_alpha(pick_output(maps, self.head), self.head)
        if alpha.shape[2:] != image.shape[2:]:
            size = (image.shape[2], image.shape[3])
            alpha = functional.interpolate(alpha, size=size, mode="bilinear", align_corners=False)
        return (alpha, *following) if following else alpha


def _call(net: nn.Module, image: torch.Tensor, states: tuple[StateSpec, ...], values: Sequence[torch.Tensor]) -> object:
    return net(image, **{state.name: value for state, value in zip(states, values, strict=True)})


def pick_output(result: object, head: Head) -> torch.Tensor:
    """The tensor that ``head`` names among the results of a forward pass.

    Raises:
        UsageError: there is no such result, or it is no 4-D map.
    """
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        index = len(result) - 1 if head.output is None else head.output
        if not 0 <= index < len(result):
            raise UsageError(
                f"the network returns {len(result)} results: there is no result {index} to take alpha from"
            )
        result = result[index]
    if not isinstance(result, torch.Tensor) or result.dim() != 4:
        shape = "x".join(map(str, result.shape)) if isinstance(result, torch.Tensor) else type(result).__name__
        raise UsageError(f"the network returns {shape} where a map 1xCxHxW with alpha is expected")
    return result


def to_alpha(output: torch.Tensor, head: Head) -> torch.Tensor:
    """Alpha in [0, 1] from the head's form: see ``Head.kind``."""
    one = slice(head.foreground, head.foreground + 1)
    if head.kind == "logits":
        return torch.softmax(output, dim=1)[:, one]
    if head.kind == "probabilities":
        return output[:, one]
    if head.kind == "logit":
        return torch.sigmoid(output)
    return output.clamp(0, 1)


_CHANNELS = {"alpha": (1,), "logit": (1,), "logits": (2,), "probabilities": (2,)}


def describe_head(head: Head, states: tuple[StateSpec, ...] = ()) -> str:
    """A head and its network's states in words, for people to check what was found."""
    where = "the result" if head.output is None else f"result {head.output}"
    how = {
        "alpha": f"{where}, clamped to [0, 1]",
        "logit": f"the sigmoid of {where}",
        "logits": f"the softmax of {where}, channel {head.foreground}",
        "probabilities": f"channel {head.foreground} of {where}",
    }
    return f"alpha is {how[head.kind]} (--head and --foreground override){describe_states(states)}"


def detect_head(
    net: nn.Module,
    image: torch.Tensor,
    kind: str | None = None,
    foreground: int = 1,
    states: tuple[StateSpec, ...] = (),
) -> Head:
    """Find alpha among the results of a stranger's network by running it once.

    Looked for are 4-D maps of one channel (alpha when within [0, 1], else a logit) or two (class
    scores; probabilities when they sum to 1). A result called ``alpha`` wins, then maps of the input's
    size, then one channel over two; what is still not single is refused.

    Args:
        net: in eval mode.
        image: 1xCxHxW float32, a photograph as the network expects it.
        kind: the head's kind where the user knows it; then only its place is looked for.
        foreground: channel of the person in two-channel maps.
        states: what ``net`` takes beside the image; their new values are no candidates.

    Raises:
        UsageError: the forward pass fails, returns NaN, or has no result, or several, that fit, or lacks a state.
    """
    size = (image.shape[2], image.shape[3])
    try:
        with torch.no_grad():
            result = _call(net, image, states, [torch.full(s.shape(size), s.initial) for s in states])
    except Exception as error:
        taken = "one tensor 1x3xHxW of the size given by --size"
        taken += "".join(f", and {state.name} {'x'.join(map(str, state.shape(size)))}" for state in states)
        raise UsageError(
            f"{type(net).__name__} failed on an input of {'x'.join(map(str, image.shape))}: {error}. "
            f"It must take {taken}{explain_states(states)}"
        ) from error
    result, _ = split_states(result, states, size)
    require_told_apart(net, states, result)
    single = not isinstance(result, (dict, tuple, list))
    results = {0: result} if single else dict(result) if isinstance(result, dict) else dict(enumerate(result))
    widths = (1, 2) if kind is None else _CHANNELS[kind]
    fitting = {name: value for name, value in results.items() if _is_map(value, widths)}
    name = _choose(fitting, image)
    if name is None:
        shapes = ", ".join("x".join(map(str, o.shape)) for o in results.values() if isinstance(o, torch.Tensor))
        wanted = " or ".join({1: "1x1xHxW (alpha)", 2: "1x2xHxW (background, foreground)"}[width] for width in widths)
        problem = "more than one may be alpha" if fitting else f"no map {wanted}"
        remedy = "return alpha alone, or a dict with the key 'alpha'"
        raise UsageError(f"{type(net).__name__} returns {shapes or 'no tensor'}: {problem}; {remedy}")
    if not torch.isfinite(fitting[name]).all():
        raise UsageError(f"{type(net).__name__} returns NaN or infinity on a photograph: are its weights loaded?")
    found = kind or _kind_of(fitting[name])
    return Head(found, None if single else list(results).index(name), foreground)  # type: ignore[arg-type]


def _is_map(value: object, widths: tuple[int, ...]) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 4 and value.shape[1] in widths


def _choose(fitting: Mapping[Any, torch.Tensor], image: torch.Tensor) -> Any:
    """The name of the one map that is alpha, or None when that is not plain."""
    if "alpha" in fitting:
        return "alpha"
    full = [name for name, value in fitting.items() if value.shape[2:] == image.shape[2:]]
    candidates = full or list(fitting)
    # beside class scores, which a segmentation branch returns, one channel is the matte
    lone = [name for name in candidates if fitting[name].shape[1] == 1]
    chosen = lone if len(lone) == 1 else candidates
    return chosen[0] if len(chosen) == 1 else None


def _kind_of(output: torch.Tensor) -> str:
    inside = bool((output >= 0).all() and (output <= 1).all())
    if output.shape[1] == 1:
        return "alpha" if inside else "logit"
    sums_to_one = inside and torch.allclose(output.sum(1), torch.ones_like(output[:, 0]), atol=1e-4)
    return "probabilities" if sums_to_one else "logits"
