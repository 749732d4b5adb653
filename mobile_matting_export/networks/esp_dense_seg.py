"""ESPD_SegNet: dilated pyramids and dilated dense blocks with a one-channel decoder.

Paper: none of its own; the pyramid follows S. Mehta et al., "ESPNet: Efficient Spatial Pyramid of
Dilated Convolutions for Semantic Segmentation" (2018), the dense blocks G. Huang et al., "Densely
Connected Convolutional Networks" (2017).
Origin: lizhengwei1992/Fast_Portrait_Segmentation (``models/esp_dense_seg.py``); the code here is our
own, from the published architecture. Licence: the repository states none.

Input: a BGR portrait stretched to 512x512, ``(pixel - mean) / 255``. Output: one logit a pixel at the
input's size, its sigmoid is the foreground probability.
"""

from __future__ import annotations

import torch
from torch import nn

from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec


def _conv3x3(inp: int, out: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inp, out, 3, stride, padding=dilation, dilation=dilation, bias=False)


class DilatedPyramidBlock(nn.Module):
    """DPRB: six parallel convolutions of growing dilation, their running sums, and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        n = channels // 6
        self.conv = _conv3x3(channels, n)
        self.d0 = nn.Conv2d(n, n, 1, bias=False)
        self.d1 = _conv3x3(n, n)
        self.d2 = _conv3x3(n, n, dilation=2)
        self.d4 = _conv3x3(n, n, dilation=4)
        self.d8 = _conv3x3(n, n, dilation=8)
        self.d16 = _conv3x3(n, n, dilation=16)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)
        self.act = nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N x channels x H x W to the same shape."""
        r = self.conv(x)
        a1 = self.d2(r)
        a2 = a1 + self.d4(r)
        a3 = a2 + self.d8(r)
        a4 = a3 + self.d16(r)
        return self.act(self.bn(x + torch.cat([self.d0(r), self.d1(r), a1, a2, a3, a4], 1)))


class DenseLayer(nn.Module):
    """A dilated 3x3 convolution and ReLU whose result is appended to its input.

    The publication gives each layer a batch normalization that its forward pass never applies;
    it is kept so that checkpoints load strictly.
    """

    def __init__(self, inp: int, growth: int, dilation: int) -> None:
        super().__init__()
        self.conv = _conv3x3(inp, growth, dilation=dilation)
        self.bn = nn.BatchNorm2d(growth)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N x inp x H x W to N x (inp + growth) x H x W."""
        return torch.cat([x, self.act(self.conv(x))], 1)


class DenseBlock(nn.Module):
    """Five dense layers with the dilations 1, 2, 4, 6, 8."""

    def __init__(self, growth: int) -> None:
        super().__init__()
        self.dense_layers = nn.Sequential(
            *(DenseLayer(growth * (i + 1), growth, dilation) for i, dilation in enumerate((1, 2, 4, 6, 8)))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N x growth x H x W to N x 6 growth x H x W."""
        return self.dense_layers(x)


class DilatedDenseBlock(nn.Module):
    """DDRB: a 1x1 reduction to a sixth, a dense block back to full width, and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels // 6, 1, bias=False)
        self.dense_block = DenseBlock(channels // 6)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N x channels x H x W to the same shape, values >= 0."""
        return self.act(self.bn(x + self.dense_block(self.conv(x))))


def _dense_stage(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(DilatedDenseBlock(channels) for _ in range(blocks)))


class EspDenseSeg(nn.Module):
    """ESPD_SegNet. Its ``bn_`` is one module shared by the three skip connections of the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = _conv3x3(3, 12)
        self.b0 = nn.BatchNorm2d(12, eps=1e-3)
        self.a0 = nn.PReLU(12)

        self.down_1 = _conv3x3(12, 12, stride=2)
        self.stage_1_0 = DilatedPyramidBlock(12)
        self.stage_1 = _dense_stage(12, blocks=1)
        self.b1 = nn.BatchNorm2d(24, eps=1e-3)
        self.a1 = nn.PReLU(24)

        self.down_2 = _conv3x3(24, 24, stride=2)
        self.stage_2_0 = DilatedPyramidBlock(24)
        self.stage_2 = _dense_stage(24, blocks=1)
        self.b2 = nn.BatchNorm2d(48, eps=1e-3)
        self.a2 = nn.PReLU(48)

        self.down_3 = _conv3x3(48, 48, stride=2)
        self.stage_3_0 = DilatedPyramidBlock(48)
        self.stage_3 = _dense_stage(48, blocks=2)
        self.b3 = nn.BatchNorm2d(96, eps=1e-3)
        self.a3 = nn.PReLU(96)

        self.down_4 = _conv3x3(96, 96, stride=2)
        self.stage_4_0 = DilatedPyramidBlock(96)
        self.stage_4 = _dense_stage(96, blocks=2)
        self.b4 = nn.BatchNorm2d(192, eps=1e-3)
        self.a4 = nn.PReLU(192)

        self.classifier = nn.Conv2d(192, 1, 1, bias=False)
        self.stage3_down = nn.Conv2d(96, 1, 1, bias=False)
        self.stage2_down = nn.Conv2d(48, 1, 1, bias=False)
        self.stage1_down = nn.Conv2d(24, 1, 1, bias=False)
        self.conv_1 = _conv3x3(1, 1)
        self.conv_2 = _conv3x3(1, 1)
        self.conv_3 = _conv3x3(1, 1)
        self.bn_ = nn.BatchNorm2d(1, eps=1e-3)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a portrait.

        Args:
            x: float32 N x 3 x H x W, BGR, ``(pixel - (104, 112, 121)) / 255`` of pixels 0..255;
                H and W multiples of 16 (usually 512).

        Returns:
            float32 N x 1 x H x W logit (any real number); sigmoid gives the foreground probability.
        """
        x = self.a0(self.b0(self.conv0(x)))
        p1 = self.stage_1_0(self.down_1(x))
        c1 = self.a1(self.b1(torch.cat([self.stage_1(p1), p1], 1)))
        p2 = self.stage_2_0(self.down_2(c1))
        c2 = self.a2(self.b2(torch.cat([self.stage_2(p2), p2], 1)))
        p3 = self.stage_3_0(self.down_3(c2))
        c3 = self.a3(self.b3(torch.cat([self.stage_3(p3), p3], 1)))
        p4 = self.stage_4_0(self.down_4(c3))
        c4 = self.a4(self.b4(torch.cat([self.stage_4(p4), p4], 1)))
        h = self.classifier(c4)
        h = self.conv_1(self.up(h) + self.bn_(self.stage3_down(c3)))
        h = self.conv_2(self.up(h) + self.bn_(self.stage2_down(c2)))
        h = self.conv_3(self.up(h) + self.bn_(self.stage1_down(c1)))
        return self.up(h)


ESP_DENSE_SEG = NetworkSpec(
    name="esp_dense_seg",
    title="ESPD_SegNet (esp_dense_seg)",
    paper="none of its own; after Mehta et al.: ESPNet: Efficient Spatial Pyramid of Dilated Convolutions "
    "for Semantic Segmentation, 2018",
    repository="https://github.com/lizhengwei1992/Fast_Portrait_Segmentation",
    licence="none stated",
    build=EspDenseSeg,
    image=ImageSpec(color="BGR", mean=(104.0, 112.0, 121.0), resize="stretch"),
    size=(512, 512),
    divisor=16,
    head=Head("logit"),
    weights="No trained weights are published.",
)
