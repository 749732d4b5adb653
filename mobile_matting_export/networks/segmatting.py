"""SegMattingNet: a residual-dense segmentation network (ERD_SegNet) and a feathering block behind it.

Origin: https://github.com/lizhengwei1992/mobile_phone_human_matting; no licence stated, so its
weights are for measurement and testing only. It has no paper of its own: the feathering follows
Zhu et al., "Fast Deep Matting for Portrait Animation on Mobile Phone", ACM MM 2017
(arXiv 1707.08289).

Input: BGR, (pixel - (104, 112, 121)) / 255, stretched to the network's size. Output: two
segmentation logits (channel 1 is the foreground) and the alpha matte, with sigmoid applied.
"""

from __future__ import annotations

import torch
from torch import nn

from mobile_matting_export.networks.blocks import conv_bn_prelu
from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec


class DenseLayer(nn.Module):
    """3x3 convolution, batch norm, ReLU; its result is appended to its input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(growth)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W to N x (C + growth) x H x W, float32."""
        return torch.cat([x, self.relu(self.bn(self.conv(x)))], dim=1)


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


class ResidualDenseBlock(nn.Module):
    """Squeezes to 1/``split`` of the channels, grows back to all of them densely, adds the input."""

    def __init__(self, channels: int, split: int) -> None:
        super().__init__()
        growth = channels // split
        self.conv = nn.Conv2d(channels, growth, 1, bias=False)
        self.dense_block = DenseBlock(growth, growth, split - 1)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x ``channels`` x H x W, float32, to the same shape; ``split`` must divide ``channels``."""
        return self.act(self.bn(x + self.dense_block(self.conv(x))))


def _bn_prelu(channels: int) -> nn.Sequential:
    """Batch norm (``0``) and PReLU with a slope per channel (``1``)."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


class ERDSegNet(nn.Module):
    """The segmentation network; the picture itself, pooled, is fed in again at every scale."""

    def __init__(self) -> None:
        super().__init__()
        # the zeros of the padding are counted, so a border pixel's mean is too small
        self.pool = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=True)

        self.head_conv = conv_bn_prelu(3, 12, stride=2)
        self.stage_0 = ResidualDenseBlock(12, 3)
        self.ba_1 = _bn_prelu(3 + 12)
        self.down_1 = conv_bn_prelu(3 + 12, 24, stride=2)
        self.stage_1 = ResidualDenseBlock(24, 3)
        self.ba_2 = _bn_prelu(3 + 2 * 24)
        self.down_2 = conv_bn_prelu(3 + 2 * 24, 48, stride=2)
        self.stage_2 = ResidualDenseBlock(48, 3)
        self.ba_3 = _bn_prelu(3 + 2 * 48)
        self.down_3 = conv_bn_prelu(3 + 2 * 48, 96, stride=2)
        self.stage_3 = nn.Sequential(ResidualDenseBlock(96, 6), ResidualDenseBlock(96, 6))
        self.ba_4 = _bn_prelu(3 + 2 * 96)
        self.down_4 = conv_bn_prelu(3 + 2 * 96, 192, stride=2)
        self.stage_4 = nn.Sequential(ResidualDenseBlock(192, 6), ResidualDenseBlock(192, 6))
        self.classifier = nn.Conv2d(192, 2, 1, bias=False)

        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last_up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.prelu = nn.PReLU(2)  # one pair of slopes for all four levels
        self.stage3_down = conv_bn_prelu(96, 2)
        self.bn3 = nn.BatchNorm2d(2)
        self.conv_3 = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.stage2_down = conv_bn_prelu(48, 2)
        self.bn2 = nn.BatchNorm2d(2)
        self.conv_2 = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.stage1_down = conv_bn_prelu(24, 2)
        self.bn1 = nn.BatchNorm2d(2)
        self.conv_1 = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.stage0_down = conv_bn_prelu(12, 2)
        self.bn0 = nn.BatchNorm2d(2)
        self.conv_0 = nn.Conv2d(2, 2, 3, padding=1, bias=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image N x 3 x H x W to logits N x 2 x H x W (background, foreground), float32."""
        image2x = self.pool(image)
        image4x = self.pool(image2x)
        image8x = self.pool(image4x)
        image16x = self.pool(image8x)

        stage_0 = self.stage_0(self.head_conv(image))
        down_1 = self.down_1(self.ba_1(torch.cat([image2x, stage_0], dim=1)))
        stage_1 = self.stage_1(down_1)
        down_2 = self.down_2(self.ba_2(torch.cat([image4x, down_1, stage_1], dim=1)))
        stage_2 = self.stage_2(down_2)
        down_3 = self.down_3(self.ba_3(torch.cat([image8x, down_2, stage_2], dim=1)))
        stage_3 = self.stage_3(down_3)
        down_4 = self.down_4(self.ba_4(torch.cat([image16x, down_3, stage_3], dim=1)))
        logits = self.classifier(self.stage_4(down_4))

        logits = self.conv_3(self.up(logits) + self.prelu(self.bn3(self.stage3_down(stage_3))))
        logits = self.conv_2(self.up(logits) + self.prelu(self.bn2(self.stage2_down(stage_2))))
        logits = self.conv_1(self.up(logits) + self.prelu(self.bn1(self.stage1_down(stage_1))))
        logits = self.conv_0(self.up(logits) + self.prelu(self.bn0(self.stage0_down(stage_0))))
        return self.last_up(logits)


class SegMattingNet(nn.Module):
    """Segmentation first; then the feathering block turns its probabilities into alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.seg_extract = ERDSegNet()
        self.convF1 = nn.Conv2d(11, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.convF2 = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Segments and mattes a batch of pictures.

        Args:
            image: N x 3 x H x W, float32, BGR, (pixel - (104, 112, 121)) / 255, so within
                -0.48..0.60; H and W multiples of 32.

        Returns:
            (seg, alpha), float32: seg N x 2 x H x W, logits of background and foreground;
            alpha N x 1 x H x W, 0..1.
        """
        seg = self.seg_extract(image)
        probabilities = torch.softmax(seg, dim=1)
        background, foreground = probabilities[:, 0:1], probabilities[:, 1:2]
        features = torch.cat([image, probabilities, image * image, image * foreground], dim=1)
        coefficients = self.convF2(self.relu(self.bn(self.convF1(features))))
        a, b, c = coefficients[:, 0:1], coefficients[:, 1:2], coefficients[:, 2:3]
        return seg, torch.sigmoid(a * foreground + b * background + c)


SEGMATTING = NetworkSpec(
    name="segmatting",
    title="SegMattingNet",
    paper="none of its own; feathering after Fast Deep Matting for Portrait Animation on Mobile Phone, "
    "ACM MM 2017, arXiv 1707.08289",
    repository="https://github.com/lizhengwei1992/mobile_phone_human_matting",
    licence="none stated (weights for measurement and testing only)",
    build=SegMattingNet,
    image=ImageSpec(color="BGR", mean=(104.0, 112.0, 121.0)),
    size=(256, 256),
    divisor=32,
    head=Head("alpha", output=1),
    weights="The repository carries pre_trained/erd_seg_matting/model/ckpt_lastest.pth, without a stated licence.",
)
