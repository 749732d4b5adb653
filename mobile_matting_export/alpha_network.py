"""Wrap any network so that it returns one alpha matte in [0, 1] at input size."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mobile_matting_export.errors import UsageError
from mobile_matting_export.networks.spec import Head


class AlphaNetwork(nn.Module):
    """``net`` behind its head: image (and states) in, alpha out.

    forward takes the image, 1xCxHxW float32, and one map per state input; they are concatenated
    in that order. It returns alpha, 1x1xHxW float32 in [0, 1].
    """

    def __init__(self, net: nn.Module, head: Head) -> None:
        super().__init__()
        self.net = net
        self.head = head

    def forward(self, image: torch.Tensor, *states: torch.Tensor) -> torch.Tensor:
        """Alpha of one frame; see the class."""
        result = self.net(torch.cat([image, *states], dim=1) if states else image)
        alpha = to_alpha(pick_output(result, self.head), self.head)
        if alpha.shape[2:] != image.shape[2:]:
            size = (image.shape[2], image.shape[3])
            alpha = functional.interpolate(alpha, size=size, mode="bilinear", align_corners=False)
        return alpha


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


def describe_head(head: Head) -> str:
    """A head in words, for people to check what was found."""
    where = "the result" if head.output is None else f"result {head.output}"
    how = {
        "alpha": f"{where}, clamped to [0, 1]",
        "logit": f"the sigmoid of {where}",
        "logits": f"the softmax of {where}, channel {head.foreground}",
        "probabilities": f"channel {head.foreground} of {where}",
    }
    return f"alpha is {how[head.kind]} (--head overrides)"


def detect_head(net: nn.Module, image: torch.Tensor, kind: str | None = None) -> Head:
    """Find alpha among the results of a stranger's network by running it once.

    The last 4-D result with one or two channels is taken: two channels are class scores
    (probabilities when they sum to 1), one channel is alpha when within [0, 1], else a logit.

    Args:
        net: in eval mode.
        image: 1xCxHxW float32, a photograph as the network expects it.
        kind: the head's kind where the user knows it; then only its place is looked for.

    Raises:
        UsageError: the forward pass fails, returns NaN, or has no result of fitting width.
    """
    try:
        with torch.no_grad():
            result = net(image)
    except Exception as error:
        raise UsageError(
            f"{type(net).__name__} failed on an input of {'x'.join(map(str, image.shape))}: {error}. "
            "Give the input it expects with --size, and --mean, --scale, --color"
        ) from error
    values = list(result.values()) if isinstance(result, dict) else result
    candidates = list(values) if isinstance(values, (tuple, list)) else [values]
    widths = (1, 2) if kind is None else _CHANNELS[kind]
    for index in reversed(range(len(candidates))):
        output = candidates[index]
        if not isinstance(output, torch.Tensor) or output.dim() != 4 or output.shape[1] not in widths:
            continue
        if not torch.isfinite(output).all():
            raise UsageError(f"{type(net).__name__} returns NaN or infinity on a photograph: are its weights loaded?")
        return Head(kind or _kind_of(output), index if isinstance(values, (tuple, list)) else None)  # type: ignore[arg-type]
    shapes = ", ".join("x".join(map(str, o.shape)) for o in candidates if isinstance(o, torch.Tensor)) or "no tensor"
    wanted = {1: "1x1xHxW (alpha)", 2: "1x2xHxW (background, foreground)"}
    raise UsageError(f"{type(net).__name__} returns {shapes}: no map {' or '.join(wanted[width] for width in widths)}")


def _kind_of(output: torch.Tensor) -> str:
    inside = bool((output >= 0).all() and (output <= 1).all())
    if output.shape[1] == 1:
        return "alpha" if inside else "logit"
    sums_to_one = inside and torch.allclose(output.sum(1), torch.ones_like(output[:, 0]), atol=1e-4)
    return "probabilities" if sums_to_one else "logits"
