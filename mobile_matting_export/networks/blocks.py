"""Blocks that more than one published network is built from, with the key names they all use."""

from __future__ import annotations

import torch
from torch import nn


def conv_bn_prelu(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias (``0``), batch norm (``1``), PReLU with a slope per channel (``2``)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.PReLU(out_channels),
    )


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, filter each channel on its own, project without an activation.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018. The input is
    added to the result when neither the size nor the number of channels changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.adds_input = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x ``in_channels`` x H x W to N x ``out_channels`` x H/``stride`` x W/``stride``, float32."""
        return x + self.conv(x) if self.adds_input else self.conv(x)
