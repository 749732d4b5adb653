"""MMNet: multi-branch dilated encoder blocks and a light decoder for mobile portrait matting.

Paper: Seo et al., "Towards Real-Time Automatic Portrait Matting on Mobile Devices",
arXiv 1904.03816. Original code: hyperconnect/MMNet (TensorFlow 1 slim, Apache-2.0). The module
names are the TensorFlow variable scopes with dots, so a converted checkpoint loads strictly.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec


def scaled_channels(channels: int, width: float) -> int:
    """Channels of a layer under the width multiplier: a multiple of 8, at least 8."""
    return max(8, (round(channels * width) + 4) // 8 * 8)


class Unit(nn.Module):
    """Convolution without bias, batch norm (eps 1e-3), ReLU6 unless ``active`` is False.

    Padding is TensorFlow's SAME: symmetric with stride 1; with stride 2 on an even size nothing
    before and one row/column of zeros after. Every strided layer here sees an even size,
    because H and W of the input are multiples of 16.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2 if stride == 1 else 0
        self.pad_after = kernel - stride if stride > 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.ReLU6() if active else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x inputs x H x W to N x outputs x H/stride x W/stride."""
        if self.pad_after:
            x = F.pad(x, (0, self.pad_after, 0, self.pad_after))
        return self.act(self.bn(self.conv(x)))


class Score(nn.Module):
    """1x1 convolution with bias to two class scores (background, person)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.pointwise_conv = nn.ModuleDict({"conv": nn.Conv2d(inputs, 2, 1)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x inputs x H x W to N x 2 x H x W logits."""
        return self.pointwise_conv["conv"](x)


class Branch(nn.Module):
    """1x1 expansion, strided 3x3 depthwise where the block reduces, dilated 3x3 depthwise."""

    def __init__(self, inputs: int, expanded: int, dilation: int, stride: int) -> None:
        super().__init__()
        self.pointwise_conv = Unit(inputs, expanded)
        self.depthwise_conv_stride: nn.Module = nn.Identity()
        if stride == 2:
            self.depthwise_conv_stride = Unit(expanded, expanded, 3, stride=2, groups=expanded)
        self.depthwise_conv_dilation = Unit(expanded, expanded, 3, dilation=dilation, groups=expanded)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x inputs x H x W to N x expanded x H/stride x W/stride."""
        return self.depthwise_conv_dilation(self.depthwise_conv_stride(self.pointwise_conv(x)))


class EncoderBlock(nn.Module):
    """Parallel branches of different dilation, concatenated and merged by a 1x1 unit."""

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        rates: tuple[int, ...],
        *,
        stride: int = 1,
        active: bool = False,
    ) -> None:
        super().__init__()
        self.branches = len(rates)
        for i, rate in enumerate(rates):
            self.add_module(f"branch{i}", Branch(inputs, expanded, rate, stride))
        self.merge = nn.ModuleDict({"pointwise_conv": Unit(expanded * len(rates), outputs, active=active)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x inputs x H x W to N x outputs x H/stride x W/stride."""
        maps = [self.get_submodule(f"branch{i}")(x) for i in range(self.branches)]
        return self.merge["pointwise_conv"](torch.cat(maps, dim=1))


class LegacyUpsample(nn.Module):
    """Bilinear x2 as TensorFlow 1 does it: out[2i] = x[i], out[2i+1] = (x[i] + x[i+1]) / 2.

    Spelled as corner-aligned interpolation of the map, with its last row and column repeated
    once, to 2n + 1, of which the first 2n are kept: the sampling points then fall on the same
    halves, to float rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W to N x C x 2H x 2W."""
        height, width = x.shape[-2:]
        x = torch.cat((x, x[:, :, -1:, :]), dim=2)
        x = torch.cat((x, x[:, :, :, -1:]), dim=3)
        x = F.interpolate(x, size=(2 * height + 1, 2 * width + 1), mode="bilinear", align_corners=True)
        return x[:, :, : 2 * height, : 2 * width]


class RefineBlock(nn.Module):
    """Decoder step: upsampled deep map beside an encoder map, concatenated in this order."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.pointwise_conv = Unit(inputs, outputs)
        self.upsample = LegacyUpsample()
        self.shortcut = nn.ModuleDict(
            {"depthwise_conv": Unit(skip, skip, 3, groups=skip), "pointwise_conv": Unit(skip, outputs)}
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """N x inputs x H x W and N x skip x 2H x 2W to N x 2*outputs x 2H x 2W."""
        up = self.upsample(self.pointwise_conv(x))
        side = self.shortcut["pointwise_conv"](self.shortcut["depthwise_conv"](skip))
        return torch.cat((up, side), dim=1)


class ExpandBlock(nn.Module):
    """Last decoder step: 1x1 unit, then x2 upsampling twice."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pointwise_conv = Unit(inputs, outputs)
        self.upsample = nn.Sequential(LegacyUpsample(), LegacyUpsample())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x inputs x H x W to N x outputs x 4H x 4W."""
        return self.upsample(self.pointwise_conv(x))


class MMNet(nn.Module):
    """The network of the paper at a width multiplier (published: 0.5, 0.75, 1.0 and 1.4).

    Input N x 3 x H x W, RGB in 0..1, H and W multiples of 16. In eval mode the result is
    N x 2 x H x W logits (background, person); softmax channel 1 is the alpha matte. In training
    mode it is the pair (logits, N x 2 x H/16 x W/16 logits of the auxiliary head).
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()

        def c(channels: int) -> int:
            return scaled_channels(channels, width)

        wide, middle, narrow = (1, 2, 4, 8), (1, 2, 4), (1, 2)
        self.init_block = nn.ModuleDict({"conv": Unit(3, c(32), 3, stride=2)})
        self.enc_block0 = EncoderBlock(c(32), c(16), c(16), wide, stride=2)
        self.enc_block1 = EncoderBlock(c(16), c(16), c(24), wide)
        self.enc_block2 = EncoderBlock(c(24), c(24), c(24), wide)
        self.enc_block3 = EncoderBlock(c(24), c(24), c(24), wide)
        self.enc_block4 = EncoderBlock(c(24), c(32), c(40), middle, stride=2)
        self.enc_block5 = EncoderBlock(c(40), c(64), c(40), middle)
        self.enc_block6 = EncoderBlock(c(40), c(64), c(40), middle)
        self.enc_block7 = EncoderBlock(c(40), c(64), c(40), middle)
        self.enc_block8 = EncoderBlock(c(40), c(80), c(80), narrow, stride=2)
        self.enc_block9 = EncoderBlock(c(80), c(120), c(80), narrow, active=True)
        self.dec_block0 = RefineBlock(c(80), c(40), c(64))
        self.dec_block1 = RefineBlock(2 * c(64), c(16), c(40))
        self.dec_block2 = EncoderBlock(2 * c(40), c(40), c(40), middle)
        self.dec_block3 = EncoderBlock(c(40), c(40), c(40), middle)
        self.dec_block4 = ExpandBlock(c(40), c(16))
        self.final_block = Score(c(16))
        self.aux_block = Score(c(80))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits of the picture ``x``; in training mode those of the auxiliary head too."""
        quarter = self.enc_block0(self.init_block["conv"](x))
        x = self.enc_block3(self.enc_block2(self.enc_block1(quarter)))
        eighth = self.enc_block4(x)
        x = self.enc_block7(self.enc_block6(self.enc_block5(eighth)))
        deep = self.enc_block9(self.enc_block8(x))
        x = self.dec_block1(self.dec_block0(deep, eighth), quarter)
        logits = self.final_block(self.dec_block4(self.dec_block3(self.dec_block2(x))))
        if self.training:
            return logits, self.aux_block(deep)
        return logits


def _spec(name: str, width: float, weights: str) -> NetworkSpec:
    return NetworkSpec(
        name=name,
        title=f"MMNet {width:g}",
        paper="Towards Real-Time Automatic Portrait Matting on Mobile Devices, arXiv 1904.03816",
        repository="https://github.com/hyperconnect/MMNet",
        licence="Apache-2.0",
        build=partial(MMNet, width),
        image=ImageSpec(),
        size=(256, 256),
        divisor=16,
        head=Head(kind="logits"),
        weights=weights,
    )


MMNET = _spec(
    "mmnet",
    1.0,
    "The authors publish none; ours lie in models/mmnet, and HymEric/Segmentation-Series-Chaos on GitHub "
    "(Apache-2.0) has TensorFlow checkpoints to convert.",
)
MMNET_075 = _spec("mmnet_075", 0.75, "No trained weights are published.")
MMNET_050 = _spec("mmnet_050", 0.5, "The authors publish none; ours lie in models/mmnet_050.")
