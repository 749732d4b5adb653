"""MobileNet_v2_Dilate_Unet: a U-Net on MobileNetV2 whose decoder widens its view by dilation.

Origin: https://github.com/lizhengwei1992/Fast_Portrait_Segmentation; no licence stated, no weights.
It has no paper of its own: the encoder is that of Sandler et al., "MobileNetV2: Inverted Residuals
and Linear Bottlenecks", CVPR 2018 (arXiv 1801.04381).

Input: BGR, (pixel - (104, 112, 121)) / 255. Output: one logit; alpha is its sigmoid.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.networks.blocks import InvertedResidual
from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec


def _bottlenecks(in_channels: int, out_channels: int, stride: int, repetitions: int) -> nn.Sequential:
    """Bottlenecks of expansion 6, the first of which strides and changes the channels."""
    repeated = (InvertedResidual(out_channels, out_channels, 1, 6) for _ in range(repetitions - 1))
    return nn.Sequential(InvertedResidual(in_channels, out_channels, stride, 6), *repeated)


class MobileNetV2Features(nn.Module):
    """The encoder; its first bottleneck has the expanding convolution too, unlike torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.head_conv = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.block_1 = InvertedResidual(32, 16, 1, 1)
        self.block_2 = _bottlenecks(16, 24, 2, 2)
        self.block_3 = _bottlenecks(24, 32, 2, 3)
        self.block_4 = _bottlenecks(32, 64, 2, 4)
        self.block_5 = _bottlenecks(64, 96, 1, 3)
        self.block_6 = _bottlenecks(96, 160, 2, 3)
        self.block_7 = InvertedResidual(160, 320, 1, 6)

    def forward(
        self, image: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image N x 3 x H x W, float32, to 16 @ 1/2, 24 @ 1/4, 32 @ 1/8, 96 @ 1/16, 320 @ 1/32."""
        enc2x = self.block_1(self.head_conv(image))
        enc4x = self.block_2(enc2x)
        enc8x = self.block_3(enc4x)
        enc16x = self.block_5(self.block_4(enc8x))
        enc32x = self.block_7(self.block_6(enc16x))
        return enc2x, enc4x, enc8x, enc16x, enc32x


class UpConcatDilate(nn.Module):
    """Doubles the size, appends the encoder's map, filters both by a dilated convolution.

    There is no activation: from the encoder's last map on, the network is linear.
    """

    def __init__(self, in_channels: int, skip_channels: int, dilation: int) -> None:
        super().__init__()
        channels = 2 * skip_channels
        self.up = nn.ConvTranspose2d(in_channels, skip_channels, 2, stride=2)
        self.aspp = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """N x C x H x W and skip N x S x 2H x 2W to N x 2S x 2H x 2W, float32."""
        return self.aspp(torch.cat([self.up(x), skip], dim=1))


class MobileNetV2DilateUNet(nn.Module):
    """The whole network."""

    def __init__(self) -> None:
        super().__init__()
        self.mobilenet_features = MobileNetV2Features()
        self.up_concat_dilate_1 = UpConcatDilate(320, 96, dilation=2)
        self.up_concat_dilate_2 = UpConcatDilate(192, 32, dilation=6)
        self.up_concat_dilate_3 = UpConcatDilate(64, 24, dilation=12)
        self.up_concat_dilate_4 = UpConcatDilate(48, 16, dilation=18)
        self.last_conv = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.Conv2d(32, 1, 1)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segments a batch of pictures.

        Args:
            image: N x 3 x H x W, float32, BGR, (pixel - (104, 112, 121)) / 255, so within
                -0.48..0.60; H and W multiples of 32.

        Returns:
            N x 1 x H x W, float32: the foreground's logit.
        """
        enc2x, enc4x, enc8x, enc16x, enc32x = self.mobilenet_features(image)
        x = self.up_concat_dilate_1(enc32x, enc16x)
        x = self.up_concat_dilate_2(x, enc8x)
        x = self.up_concat_dilate_3(x, enc4x)
        x = self.up_concat_dilate_4(x, enc2x)
        return F.interpolate(self.last_conv(x), scale_factor=2, mode="bilinear", align_corners=True)


MOBILENET_DILATE_UNET = NetworkSpec(
    name="mobilenet_dilate_unet",
    title="MobileNet_v2_Dilate_Unet",
    paper="none of its own; encoder of MobileNetV2: Inverted Residuals and Linear Bottlenecks, "
    "CVPR 2018, arXiv 1801.04381",
    repository="https://github.com/lizhengwei1992/Fast_Portrait_Segmentation",
    licence="none stated",
    build=MobileNetV2DilateUNet,
    image=ImageSpec(color="BGR", mean=(104.0, 112.0, 121.0)),
    size=(512, 512),
    divisor=32,
    head=Head("logit"),
    weights="No trained weights are published: the repository has code only.",
)
