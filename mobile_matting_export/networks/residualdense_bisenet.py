"""RD_BiSeNet: BiSeNet's two paths, the context path made of light residual-dense blocks.

Origin: https://github.com/lizhengwei1992/Fast_Portrait_Segmentation; no licence stated, no weights.
It has no paper of its own: the idea is that of Yu et al., "BiSeNet: Bilateral Segmentation Network
for Real-time Semantic Segmentation", ECCV 2018 (arXiv 1808.00897).

Input: BGR, (pixel - (104, 112, 121)) / 255, 512x512 and no other size. Output: one logit; alpha is
its sigmoid.
"""

from __future__ import annotations

import torch
from torch import nn

from mobile_matting_export.networks.blocks import conv_bn_prelu
from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec


class DenseLayer(nn.Module):
    """Batch norm, PReLU, 3x3 convolution; its result is appended to its input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.act = nn.PReLU(in_channels)
        self.conv = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W to N x (C + growth) x H x W, float32."""
        return torch.cat([x, self.conv(self.act(self.bn(x)))], dim=1)


class DenseBlock(nn.Module):
    """Dense layers one after another."""

    def __init__(self, in_channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.dense_layers = nn.Sequential(
            *(DenseLayer(in_channels + index * growth, growth) for index in range(layers))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W to N x (C + layers * growth) x H x W, float32."""
        return self.dense_layers(x)


class DenseResidualBlock(nn.Module):
    """Squeezes to 1/``split`` of the channels, grows back to all of them densely, adds the input."""

    def __init__(self, channels: int, split: int) -> None:
        super().__init__()
        growth = channels // split
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(growth)
        self.act = nn.PReLU(growth)
        self.dense_block = DenseBlock(growth, growth, split - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x ``channels`` x H x W, float32, to the same shape; ``split`` must divide ``channels``."""
        return x + self.dense_block(self.act(self.bn(self.conv(x))))


class AttentionRefinement(nn.Module):
    """Scales every channel by a weight from the channels' means over ``size`` x ``size`` pixels."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.global_pool = nn.AvgPool2d(size, stride=size)
        self.conv_1x1 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x ``channels`` x ``size`` x ``size``, float32, to the same shape."""
        return x * torch.sigmoid(self.conv_1x1(self.global_pool(x)))


class FeatureFusion(nn.Module):
    """Joins the spatial and the context path and classifies every pixel."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.conv_bn_relu = conv_bn_prelu(channels, channels, kernel=1)
        self.global_pool = nn.AvgPool2d(size, stride=size)
        self.conv_1x1_1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.relu = nn.ReLU()
        self.conv_1x1_2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.classifier = nn.Conv2d(channels, 1, 1)

    def forward(self, spatial: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Spatial and context map, ``channels`` together, to N x 1 x ``size`` x ``size``, float32."""
        x = self.conv_bn_relu(torch.cat([spatial, context], dim=1))
        weight = torch.sigmoid(self.conv_1x1_2(self.relu(self.conv_1x1_1(self.global_pool(x)))))
        return self.classifier(x * weight + x)


def _upsample(factor: int) -> nn.Upsample:
    """Bilinear with the corners aligned."""
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True)


class ResidualDenseBiSeNet(nn.Module):
    """The whole network; its poolings have fixed windows that are global only at 512x512."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_bn_relu_1 = conv_bn_prelu(3, 8, stride=2)
        self.conv_bn_relu_2 = conv_bn_prelu(8, 12, stride=2)
        self.conv_bn_relu_3 = conv_bn_prelu(12, 16, stride=2)

        self.conv = conv_bn_prelu(3, 8, stride=2)
        self.stage_0 = DenseResidualBlock(8, 2)
        self.down_1 = conv_bn_prelu(8, 12, stride=2)
        self.stage_1 = DenseResidualBlock(12, 3)
        self.down_2 = conv_bn_prelu(12, 24, stride=2)
        self.stage_2 = nn.Sequential(DenseResidualBlock(24, 6), DenseResidualBlock(24, 6))
        self.down_3 = conv_bn_prelu(24, 48, stride=2)
        self.stage_3 = nn.Sequential(DenseResidualBlock(48, 6), DenseResidualBlock(48, 6))
        self.down_4 = conv_bn_prelu(48, 64, stride=2)
        self.stage_4 = nn.Sequential(DenseResidualBlock(64, 8), DenseResidualBlock(64, 8))

        self.global_pool = nn.AvgPool2d(16, stride=16)
        self.tail_up = _upsample(16)
        self.arm_32 = AttentionRefinement(64, 16)
        self.level_32_up = nn.Sequential(_upsample(4), nn.Conv2d(64, 48, 1))
        self.arm_16 = AttentionRefinement(48, 32)
        self.level_16_up = _upsample(2)

        self.ffm = FeatureFusion(64, 64)
        self.up = _upsample(8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segments a batch of pictures.

        Args:
            image: N x 3 x 512 x 512, float32, BGR, (pixel - (104, 112, 121)) / 255, so within
                -0.48..0.60.

        Returns:
            N x 1 x 512 x 512, float32: the foreground's logit.
        """
        spatial = self.conv_bn_relu_3(self.conv_bn_relu_2(self.conv_bn_relu_1(image)))

        x = self.stage_0(self.conv(image))
        x = self.stage_1(self.down_1(x))
        x = self.stage_2(self.down_2(x))
        level_16 = self.stage_3(self.down_3(x))
        level_32 = self.stage_4(self.down_4(level_16))

        tail = self.tail_up(self.global_pool(level_32))
        context_32 = self.level_32_up(self.arm_32(level_32) + tail)
        context_16 = self.level_16_up(self.arm_16(level_16))
        return self.up(self.ffm(spatial, context_16 + context_32))


RESIDUALDENSE_BISENET = NetworkSpec(
    name="residualdense_bisenet",
    title="RD_BiSeNet",
    paper="none of its own; after BiSeNet: Bilateral Segmentation Network for Real-time Semantic "
    "Segmentation, ECCV 2018, arXiv 1808.00897",
    repository="https://github.com/lizhengwei1992/Fast_Portrait_Segmentation",
    licence="none stated",
    build=ResidualDenseBiSeNet,
    image=ImageSpec(color="BGR", mean=(104.0, 112.0, 121.0)),
    size=(512, 512),
    divisor=32,
    head=Head("logit"),
    weights="No trained weights are published: the repository has code only.",
    fixed_size=True,
)
