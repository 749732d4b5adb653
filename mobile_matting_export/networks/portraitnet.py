"""PortraitNet: a MobileNetV2 encoder and a residual decoder with transposed convolutions.

Paper: S.-H. Zhang, X. Dong, H. Li, R. Li, Y.-L. Yang, "PortraitNet: Real-time portrait segmentation
network for mobile device", Computers & Graphics 80 (2019).
Origin: dong-x16/PortraitNet (class ``MobileNetV2``); the code here is our own, from the published
architecture. Licence: the repository states none; the four-channel weights of
anilsathyan7/Portrait-Segmentation are MIT.

Input: a BGR portrait, letterboxed to 224x224, ``(pixel - mean) * 0.017``; the video variant takes the
previous frame's foreground probability as a fourth channel. Output: two logits a pixel at the input's
size, softmax channel 1 is the foreground.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec, StateSpec

Upsampling = Literal["deconv", "depthwise_deconv", "bilinear"]


class InvertedResidual(nn.Module):
    """MobileNetV2's block with ReLU; the 1x1 expansion is there even where it expands nothing."""

    def __init__(self, inp: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inp * expand
        self.has_shortcut = stride == 1 and inp == out
        self.conv = nn.Sequential(
            nn.Conv2d(inp, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N x inp x H x W to N x out x H/stride x W/stride."""
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class ResidualBlock(nn.Module):
    """The decoder's block: two depthwise-separable convolutions beside a 1x1 projection."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(inp, inp, 3, 1, 1, groups=inp, bias=False),
                nn.BatchNorm2d(inp),
                nn.ReLU(),
                nn.Conv2d(inp, out, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ),
            nn.Conv2d(out, out, 3, 1, 1, groups=out, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.residual = nn.Sequential(nn.Conv2d(inp, out, 1, bias=False), nn.BatchNorm2d(out))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map N x inp x H x W to N x out x H x W, values >= 0."""
        return self.relu(self.block(x) + self.residual(x))


def _inverted_residuals(inp: int, out: int, stride: int, expand: int, blocks: int) -> nn.Sequential:
    first = InvertedResidual(inp, out, stride, expand)
    return nn.Sequential(first, *(InvertedResidual(out, out, 1, expand) for _ in range(blocks - 1)))


def _double(channels: int, upsampling: Upsampling) -> nn.Module:
    if upsampling == "bilinear":  # PyTorch 0.3, in which it was published, aligned the corners
        return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    groups = channels if upsampling == "depthwise_deconv" else 1
    return nn.ConvTranspose2d(channels, channels, 4, 2, 1, groups=groups, bias=False)


class PortraitNet(nn.Module):
    """PortraitNet at inference: without the edge head, which only the training loss reads.

    ``channels``: 3 for pictures, 4 for video. ``upsampling`` chooses between the three decoders of
    the official configuration: dense transposed convolutions (the published default), depthwise
    ones, or none at all.
    """

    def __init__(self, channels: int = 3, upsampling: Upsampling = "deconv") -> None:
        super().__init__()
        self.stage0 = nn.Sequential(nn.Conv2d(channels, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.stage1 = InvertedResidual(32, 16, stride=1, expand=1)
        self.stage2 = _inverted_residuals(16, 24, stride=2, expand=6, blocks=2)
        self.stage3 = _inverted_residuals(24, 32, stride=2, expand=6, blocks=3)
        self.stage4 = _inverted_residuals(32, 64, stride=2, expand=6, blocks=4)
        self.stage5 = _inverted_residuals(64, 96, stride=1, expand=6, blocks=3)
        self.stage6 = _inverted_residuals(96, 160, stride=2, expand=6, blocks=3)
        self.stage7 = InvertedResidual(160, 320, stride=1, expand=6)
        self.transit1 = ResidualBlock(320, 96)
        self.transit2 = ResidualBlock(96, 32)
        self.transit3 = ResidualBlock(32, 24)
        self.transit4 = ResidualBlock(24, 16)
        self.transit5 = ResidualBlock(16, 8)
        self.deconv1 = _double(96, upsampling)
        self.deconv2 = _double(32, upsampling)
        self.deconv3 = _double(24, upsampling)
        self.deconv4 = _double(16, upsampling)
        self.deconv5 = _double(8, upsampling)
        self.pred = nn.Conv2d(8, 2, 3, 1, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a portrait.

        Args:
            x: float32 N x ``channels`` x H x W, H and W multiples of 32 (usually 224). Channels 0-2
                are BGR, ``(pixel - (103.94, 116.78, 123.68)) * 0.017`` of pixels 0..255. Channel 3,
                in the video variant, is the previous frame's foreground probability in [0, 1] at
                the same size, not normalized, all zeros on the first frame.

        Returns:
            float32 N x 2 x H x W logits: background, foreground (any real number).
        """
        half = self.stage1(self.stage0(x))
        quarter = self.stage2(half)
        eighth = self.stage3(quarter)
        sixteenth = self.stage5(self.stage4(eighth))
        deep = self.stage7(self.stage6(sixteenth))
        up = self.deconv1(self.transit1(deep))
        up = self.deconv2(self.transit2(sixteenth + up))
        up = self.deconv3(self.transit3(eighth + up))
        up = self.deconv4(self.transit4(quarter + up))
        up = self.deconv5(self.transit5(up))
        return self.pred(up)


class PortraitNetWithEdge(PortraitNet):
    """PortraitNet as trained with the boundary loss: it owns the edge head's weights.

    The head exists so that such checkpoints load strictly; the matte does not depend on it, and
    ``forward`` leaves it out (in training the publication returns it as a second result).
    """

    def __init__(self, channels: int = 3, upsampling: Upsampling = "deconv") -> None:
        super().__init__(channels, upsampling)
        self.edge = nn.Conv2d(8, 2, 3, 1, 1, bias=False)


def _build_video() -> PortraitNet:
    return PortraitNet(channels=4)


def _upsampling_of(tensors: Mapping[str, torch.Tensor]) -> Upsampling:
    # no transposed convolution at all means bilinear only where the rest of the decoder is present:
    # a damaged checkpoint should fail the strict load of the default, which names what is missing
    if "deconv1.weight" in tensors:
        return "depthwise_deconv" if tuple(tensors["deconv1.weight"].shape[:2]) == (96, 1) else "deconv"
    return "bilinear" if "transit1.residual.0.weight" in tensors else "deconv"


def _build_for_state(tensors: Mapping[str, torch.Tensor]) -> PortraitNet:
    """Build the three-channel variant with the decoder and heads that a checkpoint holds."""
    kind = PortraitNetWithEdge if "edge.weight" in tensors else PortraitNet
    return kind(3, _upsampling_of(tensors))


def _build_video_for_state(tensors: Mapping[str, torch.Tensor]) -> PortraitNet:
    """Build the four-channel variant with the decoder and heads that a checkpoint holds."""
    kind = PortraitNetWithEdge if "edge.weight" in tensors else PortraitNet
    return kind(4, _upsampling_of(tensors))


_IMAGE = ImageSpec(
    color="BGR",
    mean=(103.94, 116.78, 123.68),
    scale=(0.017, 0.017, 0.017),
    resize="letterbox",
    fill=128,
)
_PAPER = (
    "Zhang, Dong, Li, Li, Yang: PortraitNet: Real-time portrait segmentation network for mobile device, "
    "Computers & Graphics 80, 2019"
)

PORTRAITNET = NetworkSpec(
    name="portraitnet",
    title="PortraitNet (RGB)",
    paper=_PAPER,
    repository="https://github.com/dong-x16/PortraitNet",
    licence="none stated",
    build=PortraitNet,
    image=_IMAGE,
    size=(224, 224),
    divisor=32,
    head=Head("logits", foreground=1),
    weights="The authors' repository trains and saves model_best.pth.tar files (key state_dict, no module. "
    "prefix); it redistributes no three-channel weights under a licence. models/portraitnet of this project says how "
    "to train some.",
    build_for_state=_build_for_state,
)

PORTRAITNET_VIDEO = NetworkSpec(
    name="portraitnet_video",
    title="PortraitNet (video: RGB and the previous matte)",
    paper=_PAPER,
    repository="https://github.com/dong-x16/PortraitNet",
    licence="none stated for the architecture; MIT for the weights of anilsathyan7/Portrait-Segmentation",
    build=_build_video,
    image=_IMAGE,
    size=(224, 224),
    divisor=32,
    head=Head("logits", foreground=1),
    weights="https://github.com/anilsathyan7/Portrait-Segmentation publishes portrait_video_quant.tflite "
    "(MIT), an int8 file from which a float state dict can be recovered.",
    state=(StateSpec(name="previous_alpha", channels=1, source="alpha", initial=0.0),),
    build_for_state=_build_video_for_state,
)
