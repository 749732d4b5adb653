"""An affine map of each channel, which is what batch norm is at inference."""

from __future__ import annotations

import dataclasses

import torch
from torch import fx

from mobile_matting_export.graph.surgery import constant


@dataclasses.dataclass(frozen=True)
class Affine:
    """y = scale * x + shift for each channel, float64, one number a channel."""

    scale: torch.Tensor
    shift: torch.Tensor

    def part(self, first: int, end: int) -> Affine:
        """The map of channels ``first`` to ``end`` (excluded)."""
        return Affine(self.scale[first:end], self.shift[first:end])

    def without_shift(self) -> Affine:
        """The same factors and no shift: what one side of a sum gets when the other has taken the shift."""
        return Affine(self.scale, torch.zeros_like(self.shift))


def affine_of_norm(graph_module: fx.GraphModule, node: fx.Node) -> Affine:
    """The map of a ``batch_norm`` in eval mode: scale = g / sqrt(v + eps), shift = beta - scale * mean."""
    weight, bias, mean, variance = (constant(graph_module, argument) for argument in node.args[1:5])
    assert mean is not None and variance is not None  # capture is in eval mode
    scale = torch.rsqrt(variance.double() + node.args[7])  # type: ignore[operator]
    if weight is not None:
        scale = scale * weight.double()
    shift = -mean.double() * scale
    return Affine(scale, shift if bias is None else shift + bias.double())
