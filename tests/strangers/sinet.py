"""SINet as a stranger would hand it in: shuffled groups, modules under computed names, an information gate.

Paper: H. Park, L. Sjosund, Y. Yoo, N. Monet, J. Bang, N. Kwak, "SINet: Extreme Lightweight Portrait Segmentation
Networks with Spatial Squeeze Modules and Information Blocking Decoder", WACV 2020. Our own code for the published
checkpoint's keys (clovaai/ext_portrait_segmentation, MIT).

Input: BGR stretched to 224x224, (pixel - MEAN) / STD / 255. Output: scores of background and person.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

MEAN = (107.304565, 115.69884, 132.35703)
STD = (63.97182, 65.1337, 68.29726)

# kernel and average-pooling window of both branches: two modules at 1/4, eight at 1/8
LEVEL2 = (((3, 1), (5, 1)), ((3, 1), (3, 1)))
LEVEL3 = (
    *(((3, 1), (5, 1)), ((3, 1), (3, 1)), ((5, 1), (3, 2)), ((5, 2), (3, 4))),
    *(((3, 1), (3, 1)), ((5, 1), (5, 1)), ((3, 2), (3, 4)), ((3, 1), (5, 2))),
)


def shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


def norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class Conv(nn.Module):
    def __init__(self, inp: int, out: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, out, 1, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class NormAct(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = norm(width)
        self.act = nn.PReLU(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(x))


class ConvNormAct(NormAct):
    def __init__(self, inp: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(out)
        self.conv = nn.Conv2d(inp, out, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.conv(x))


class Squeeze(nn.Module):
    """A gate from the average of the map, spelled on two-dimensional tensors; PReLU instead of a sigmoid."""

    def __init__(self, width: int, divide: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(width, width // divide), nn.PReLU(width // divide)]
        if divide > 1:
            layers += [nn.Linear(width // divide, width), nn.PReLU(width)]
        self.dense = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.size()
        pooled = F.avg_pool2d(x, kernel_size=[height, width]).view(batch, -1)
        return self.dense(pooled).view(batch, channels, 1, 1) * x


class Reduce(NormAct):
    """Halves the map: depthwise 3x3 of stride 2, squeeze, 1x1."""

    def __init__(self, inp: int, out: int, divide: int) -> None:
        super().__init__(out)
        self.conv = nn.Sequential(
            nn.Conv2d(inp, inp, 3, 2, 1, groups=inp, bias=False),
            Squeeze(inp, divide),
            nn.Conv2d(inp, out, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.conv(x))


class Branch(nn.Module):
    def __init__(self, width: int, kernel: int, window: int) -> None:
        super().__init__()
        self.window = window
        if window > 1:
            self.down_res = nn.AvgPool2d(window, window)
            self.up_res = nn.UpsamplingBilinear2d(scale_factor=window)
        depthwise = nn.Conv2d(width, width, kernel, 1, kernel // 2, groups=width, bias=False)
        self.conv = nn.Sequential(depthwise, norm(width))
        self.act_conv1x1 = nn.Sequential(nn.PReLU(width), nn.Conv2d(width, width, 1, bias=False))
        self.bn = norm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.window > 1:
            x = self.down_res(x)
        x = self.act_conv1x1(self.conv(x))
        if self.window > 1:
            x = self.up_res(x)
        return self.bn(x)


class SpatialSqueeze(nn.Module):
    def __init__(self, inp: int, out: int, branches: tuple[tuple[int, int], ...], residual: bool) -> None:
        super().__init__()
        self.count, self.residual = len(branches), residual
        self.c1 = Conv(inp, out // self.count, groups=self.count)
        for i, (kernel, window) in enumerate(branches):
            self.__dict__["_modules"][f"d{i + 1}"] = Branch(out // self.count, kernel, window)
        self.BR = NormAct(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shuffled = shuffle(self.c1(x), self.count)
        combined = torch.cat([self.__dict__["_modules"][f"d{i + 1}"](shuffled) for i in range(self.count)], 1)
        if self.residual:
            combined = x + combined
        return self.BR(combined)


def level(inp: int, out: int, table: tuple[tuple[tuple[int, int], ...], ...]) -> nn.ModuleList:
    return nn.ModuleList(SpatialSqueeze(out if i else inp, out, row, residual=i > 0) for i, row in enumerate(table))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.level1 = ConvNormAct(3, 12, 3, 2)
        self.level2_0 = Reduce(12, 16, divide=1)
        self.level2 = level(16, 48, LEVEL2)
        self.BR2 = NormAct(48 + 16)
        self.level3_0 = Reduce(48 + 16, 48, divide=2)
        self.level3 = level(48, 96, LEVEL3)
        self.BR3 = NormAct(96 + 48)
        self.classifier = Conv(96 + 48, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = fine = self.level2_0(self.level1(x))
        for layer in self.level2:
            fine = layer(fine)
        start = coarse = self.level3_0(self.BR2(torch.cat([first, fine], 1)))
        for layer in self.level3:
            coarse = layer(coarse)
        return fine, self.classifier(self.BR3(torch.cat([start, coarse], 1)))


class SINet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.up = nn.UpsamplingBilinear2d(scale_factor=2)
        self.bn_3 = nn.BatchNorm2d(2, eps=1e-3)
        self.level2_C = ConvNormAct(48, 2, 1)
        self.bn_2 = nn.BatchNorm2d(2, eps=1e-3)
        self.classifier = nn.Sequential(nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(2, 2, 3, 1, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine, coarse = self.encoder(x)
        coarse = self.bn_3(self.up(coarse))
        confidence = torch.max(nn.Softmax2d()(coarse), dim=1)[0]
        gate = (1 - confidence).unsqueeze(1).expand(*coarse.size())  # block what is known already
        return self.classifier(self.bn_2(self.up(self.level2_C(fine) * gate + coarse)))


def build() -> nn.Module:
    return SINet()
