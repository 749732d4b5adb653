"""A network the toolchain has never seen, with the spellings that converters stumble over."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Gate(nn.Module):
    """Squeeze-and-excite, spelled with view, Linear and expand_as."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 4)
        self.excite = nn.Linear(channels // 4, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(pooled), inplace=True)))
        return x * weight.view(x.size(0), -1, 1, 1).expand_as(x)


class OddNetwork(nn.Module):
    """PReLU, pixel shuffle, nearest upsampling, chunk and cat, functional calls, in-place operators."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.slope = nn.PReLU(16)
        self.left = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.right = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.half_norm = nn.InstanceNorm2d(8)
        self.gate = Gate(16)
        self.down = nn.Conv2d(16, 32, 3, stride=2)
        self.shuffle = nn.PixelShuffle(2)
        self.head = nn.Conv2d(8 + 16, 2, 1)
        self.drop = nn.Dropout2d(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.slope(self.norm(self.stem(x)))
        left, right = torch.chunk(y, 2, dim=1)
        right = self.half_norm(self.right(right))
        y = torch.cat((F.leaky_relu(self.left(left), 0.1), right), 1)
        y += F.hardswish(y)
        y[:, :4] *= 0.5
        y = self.drop(self.gate(y))
        small = F.relu6(self.down(F.pad(y, (0, 1, 0, 1))), inplace=True)
        context = F.interpolate(F.adaptive_avg_pool2d(small, 1), size=small.shape[2:], mode="nearest")
        fine = self.shuffle(small + context)
        both = torch.cat([fine, F.max_pool2d(y, 3, stride=1, padding=1)], dim=1)
        logits = F.interpolate(self.head(both), scale_factor=2, mode="nearest")
        return F.softmax(logits, dim=1)[:, 1:]


def build() -> nn.Module:
    """The network with fixed random weights and batch-norm statistics that are not the identity."""
    torch.manual_seed(0)
    net = OddNetwork()
    with torch.no_grad():
        net.norm.running_mean.uniform_(-0.2, 0.2)
        net.norm.running_var.uniform_(0.5, 1.5)
        net.norm.weight.uniform_(0.5, 1.5)
        net.norm.bias.uniform_(-0.2, 0.2)
        net.slope.weight.uniform_(-0.3, 0.6)
    return net
