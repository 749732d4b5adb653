"""ExtremeC3 as a stranger would hand it in: long one-dimensional depthwise kernels, norms behind joins, PReLU.

Paper: H. Park, L. Sjosund, Y. Yoo, J. Bang, N. Kwak, "ExtremeC3Net: Extreme Lightweight Portrait Segmentation
Networks using Advanced C3-modules", ICCV Workshops 2019. Our own code for the published checkpoint's keys
(clovaai/ext_portrait_segmentation, MIT).

Input: BGR stretched to 224x224, (pixel - MEAN) / STD / 255. Output: one logit a pixel.
"""

from __future__ import annotations

import torch
from torch import nn

MEAN = (107.304565, 115.69884, 132.35703)
STD = (63.97182, 65.1337, 68.29726)


class Conv(nn.Module):
    def __init__(self, inp: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, out, (kernel, kernel), stride=stride, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class NormAct(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width, eps=1e-3)
        self.act = nn.PReLU(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(x))


class ConvNormAct(NormAct):
    def __init__(self, inp: int, out: int) -> None:
        super().__init__(out)
        self.conv = nn.Conv2d(inp, out, 3, 2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.conv(x))


class Concentrated(nn.Module):
    """A dilated depthwise convolution behind two one-dimensional ones that cover its holes, then 1x1."""

    def __init__(self, inp: int, out: int, dilation: int) -> None:
        super().__init__()
        dilated = nn.Conv2d(inp, inp, 3, padding=dilation, dilation=dilation, groups=inp, bias=False)
        layers: list[nn.Module] = [dilated, nn.Conv2d(inp, out, 1, bias=False)]
        if dilation > 1:
            length = 2 * dilation - 1
            tall = nn.Conv2d(inp, inp, (length, 1), padding=(dilation - 1, 0), groups=inp, bias=False)
            wide = nn.Conv2d(inp, inp, (1, length), padding=(0, dilation - 1), groups=inp, bias=False)
            layers = [tall, nn.BatchNorm2d(inp), nn.PReLU(inp), wide, nn.BatchNorm2d(inp), *layers]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Branches(nn.Module):
    """Three dilations of one reduced map, side by side."""

    def __init__(self, reduce: Conv, width: int, out: int, dilations: tuple[int, int, int]) -> None:
        super().__init__()
        self.c1 = reduce
        self.d1 = Concentrated(width, out - 2 * width, dilations[0])
        self.d2 = Concentrated(width, width, dilations[1])
        self.d3 = Concentrated(width, width, dilations[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reduced = self.c1(x)
        return torch.cat([self.d1(reduced), self.d2(reduced), self.d3(reduced)], 1)


class Down(Branches):
    def __init__(self, inp: int, out: int, dilations: tuple[int, int, int]) -> None:
        super().__init__(Conv(inp, out // 3, 3, 2), out // 3, out, dilations)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)
        self.act = nn.PReLU(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(super().forward(x)))


class Advanced(Branches):
    def __init__(self, inp: int, out: int, dilations: tuple[int, int, int] = (2, 4, 8)) -> None:
        super().__init__(Conv(inp, out // 3, 1), out // 3, out, dilations)
        self.bn = NormAct(out)
        self.residual = inp == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        combined = super().forward(x)
        if self.residual:
            combined = x + combined
        return self.bn(combined)


class Pyramid(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.pool = nn.ModuleList(nn.AvgPool2d(2, stride=2, padding=0) for _ in range(times))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for pool in self.pool:
            x = pool(x)
        return x


class Coarse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.level1 = ConvNormAct(3, 24)
        self.sample1, self.sample2 = Pyramid(1), Pyramid(2)
        self.b1 = NormAct(24 + 3)
        self.level2_0 = Down(24 + 3, 48, (1, 2, 3))
        self.level2 = nn.ModuleList([Advanced(48, 48, (1, 3, 4))])
        self.b2 = NormAct(48 + 48 + 3)
        self.level3_0 = Advanced(48 + 48 + 3, 56, (1, 3, 5))
        self.level3 = nn.ModuleList(Advanced(56, 56) for _ in range(5))
        self.b3 = NormAct(56 + 56)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        start = x = self.level2_0(self.b1(torch.cat([self.level1(image), self.sample1(image)], 1)))
        for layer in self.level2:
            x = layer(x)
        first = x = self.level3_0(self.b2(torch.cat([x, start, self.sample2(image)], 1)))
        for layer in self.level3:
            x = layer(x)
        return self.b3(torch.cat([first, x], 1))


class ExtremeC3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Coarse()
        self.upsample = nn.Sequential(
            nn.Conv2d(112, 24, 1, bias=False), nn.BatchNorm2d(24), nn.UpsamplingBilinear2d(scale_factor=2)
        )
        self.Fine = nn.Sequential(Conv(3, 24, 3, 2), Advanced(24, 24))
        self.classifier = nn.Sequential(
            NormAct(24), nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(24, 1, 1, bias=False)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.upsample(self.encoder(image)) + self.Fine(image))


def build() -> nn.Module:
    return ExtremeC3()
