"""Shuffle_Seg_SkipNet: a ShuffleNet encoder with one-channel skip connections.

Paper: none of its own; the decoder follows M. Gamal, M. Siam, M. Abdel-Razek, "ShuffleSeg: Real-time
Semantic Segmentation Network" (2018), SkipNet variant; the encoder X. Zhang et al., "ShuffleNet: An
Extremely Efficient Convolutional Neural Network for Mobile Devices" (2017), three groups.
Origin: lizhengwei1992/Fast_Portrait_Segmentation (``models/shuffle_seg_skipnet.py``); the code here is
our own, from the published architecture. Licence: the repository states none.

Input: a BGR portrait stretched to 512x512, ``(pixel - mean) / 255``. Output: one logit a pixel at the
input's size, its sigmoid is the foreground probability.

The repository does not contain the file that defines its up-sampling layer. Known variants of that
layer differ in kernel size and bias, so both are taken from the checkpoint.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import nn

from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec

GROUPS = 3


class ChannelShuffle(nn.Module):
    """Deal the channels of each group round: out[k * groups + j] = in[j * C / groups + k]."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Permute the channels of N x C x H x W."""
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def _pointwise(inp: int, out: int, groups: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(conv1x1=nn.Conv2d(inp, out, 1, groups=groups), batch_norm=nn.BatchNorm2d(out))


class _ShuffleUnit(nn.Module):
    """What the two units share: compress 1x1, shuffle, depthwise 3x3, expand 1x1.

    The depthwise convolution has no activation behind it; ``bottleneck`` is a quarter of the width
    of the stage. The first unit of the encoder compresses without groups.
    """

    def __init__(self, inp: int, bottleneck: int, out: int, stride: int, compress_groups: int) -> None:
        super().__init__()
        self.g_conv_1x1_compress = nn.Sequential(
            OrderedDict(_pointwise(inp, bottleneck, compress_groups), relu=nn.ReLU())
        )
        self.shuffle = ChannelShuffle(GROUPS)
        self.depthwise_conv3x3 = nn.Conv2d(bottleneck, bottleneck, 3, stride, 1, groups=bottleneck)
        self.bn_after_depthwise = nn.BatchNorm2d(bottleneck)
        self.g_conv_1x1_expand = nn.Sequential(_pointwise(bottleneck, out, GROUPS))
        self.relu = nn.ReLU()

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        """Run the branch beside the shortcut."""
        x = self.shuffle(self.g_conv_1x1_compress(x))
        return self.g_conv_1x1_expand(self.bn_after_depthwise(self.depthwise_conv3x3(x)))


class AddUnit(_ShuffleUnit):
    """ShuffleNet's unit of stride 1: the branch is added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width // 4, width, stride=1, compress_groups=GROUPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N x width x H x W to the same shape, values >= 0."""
        return self.relu(x + self.branch(x))


class ConcatUnit(_ShuffleUnit):
    """ShuffleNet's unit of stride 2: the branch is appended to the average-pooled input."""

    def __init__(self, inp: int, width: int, compress_groups: int) -> None:
        super().__init__(inp, width // 4, width - inp, stride=2, compress_groups=compress_groups)
        self.pool = nn.AvgPool2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N x inp x H x W to N x width x H/2 x W/2, values >= 0."""
        return self.relu(torch.cat([self.pool(x), self.branch(x)], 1))


def _stage(number: int, inp: int, width: int, units: int, compress_groups: int = GROUPS) -> nn.Sequential:
    members: OrderedDict[str, nn.Module] = OrderedDict()
    members[f"ShuffleUnit_Stage{number}_0"] = ConcatUnit(inp, width, compress_groups)
    for i in range(1, units):
        members[f"ShuffleUnit_Stage{number}_{i}"] = AddUnit(width)
    return nn.Sequential(members)


class Encoder(nn.Module):
    """ShuffleNet v1 with three groups."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, 2, 1)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stage2 = _stage(2, 24, 240, units=4, compress_groups=1)
        self.stage3 = _stage(3, 240, 480, units=8)
        self.stage4 = _stage(4, 480, 960, units=4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the features at 1/2, 1/4, 1/8, 1/16 and 1/32 (24, 24, 240, 480, 960 channels)."""
        s0 = self.conv1(x)
        s1 = self.maxpool(s0)
        s2 = self.stage2(s1)
        s3 = self.stage3(s2)
        return s0, s1, s2, s3, self.stage4(s3)


class Double(nn.ConvTranspose2d):
    """A one-channel transposed convolution that doubles H and W, for any kernel of 2 or more."""

    def __init__(self, kernel: int, bias: bool) -> None:
        padding = (kernel - 1) // 2
        super().__init__(1, 1, kernel, 2, padding, output_padding=2 - kernel + 2 * padding, bias=bias)


class ShuffleSegSkipNet(nn.Module):
    """Shuffle_Seg_SkipNet. ``up_kernel`` and ``up_bias`` describe its five up-sampling layers.

    The batch normalization of the decoder, ``bn_``, is one module applied at nine places.
    """

    def __init__(self, up_kernel: int = 4, up_bias: bool = False) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.scorelayer = nn.Conv2d(960, 1, 1)
        self.stage3_down = nn.Conv2d(480, 1, 1, bias=False)
        self.stage2_down = nn.Conv2d(240, 1, 1, bias=False)
        self.stage1_down = nn.Conv2d(24, 1, 1, bias=False)
        self.stage0_down = nn.Conv2d(24, 1, 1, bias=False)
        self.up1 = Double(up_kernel, up_bias)
        self.up2 = Double(up_kernel, up_bias)
        self.up3 = Double(up_kernel, up_bias)
        self.up4 = Double(up_kernel, up_bias)
        self.deconv = Double(up_kernel, up_bias)
        self.bn_ = nn.BatchNorm2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a portrait.

        Args:
            x: float32 N x 3 x H x W, BGR, ``(pixel - (104, 112, 121)) / 255`` of pixels 0..255;
                H and W multiples of 32 (usually 512).

        Returns:
            float32 N x 1 x H x W logit (any real number); sigmoid gives the foreground probability.
        """
        s0, s1, s2, s3, s4 = self.encoder(x)
        h = self.bn_(self.scorelayer(s4))
        h = self.bn_(self.up1(h)) + self.bn_(self.stage3_down(s3))
        h = self.bn_(self.up2(h)) + self.bn_(self.stage2_down(s2))
        h = self.bn_(self.up3(h)) + self.bn_(self.stage1_down(s1))
        h = self.bn_(self.up4(h)) + self.bn_(self.stage0_down(s0))
        return self.deconv(h)


def _build_for_state(tensors: Mapping[str, torch.Tensor]) -> ShuffleSegSkipNet:
    """Build the network with the up-sampling kernel and bias that a checkpoint holds."""
    weight = tensors.get("up1.weight")
    if weight is None or weight.ndim != 4:  # the strict load of the default names what is wrong
        return ShuffleSegSkipNet()
    return ShuffleSegSkipNet(up_kernel=weight.shape[-1], up_bias="up1.bias" in tensors)


SHUFFLE_SEG_SKIPNET = NetworkSpec(
    name="shuffle_seg_skipnet",
    title="Shuffle_Seg_SkipNet",
    paper="none of its own; after Gamal, Siam, Abdel-Razek: ShuffleSeg: Real-time Semantic Segmentation Network, 2018",
    repository="https://github.com/lizhengwei1992/Fast_Portrait_Segmentation",
    licence="none stated",
    build=ShuffleSegSkipNet,
    image=ImageSpec(color="BGR", mean=(104.0, 112.0, 121.0), resize="stretch"),
    size=(512, 512),
    divisor=32,
    head=Head("logit"),
    weights="No trained weights are published.",
    build_for_state=_build_for_state,
)
