"""MODNet: trimap-free portrait matting by a low-resolution, a high-resolution and a fusion branch.

Paper: Ke et al., "MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition",
AAAI 2022 (arXiv 2011.11961). Origin: https://github.com/ZHKKKe/MODNet; Apache-2.0, code and models.
This is the released network: a squeeze-and-excitation block stands where the paper has its e-ASPP.

Input: RGB, (pixel - 127.5) / 127.5. Output: the alpha matte, with sigmoid applied. Half of the
channels are normalized over the picture at hand, so size and crop change every pixel of the result.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.networks.blocks import InvertedResidual
from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec

HR_CHANNELS = 32
ENC2X_CHANNELS, ENC4X_CHANNELS, ENC32X_CHANNELS = 16, 24, 1280


class IBNorm(nn.Module):
    """Batch norm for the first half of the channels, instance norm for the second half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.batch_channels = channels // 2
        self.bnorm = nn.BatchNorm2d(self.batch_channels)
        self.inorm = nn.InstanceNorm2d(channels - self.batch_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W, float32, to the same shape."""
        batch, instance = x[:, : self.batch_channels], x[:, self.batch_channels :]
        return torch.cat([self.bnorm(batch), self.inorm(instance)], dim=1)


class ConvIBNormReLU(nn.Module):
    """Convolution with bias, IBNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2),
            IBNorm(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x ``in_channels`` x H x W to N x ``out_channels`` x H/stride x W/stride, float32, >= 0."""
        return self.layers(x)


class PlainConv(nn.Module):
    """A convolution with bias and nothing behind it, under the key ``layers.0``."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x ``in_channels`` x H x W to N x ``out_channels`` x H/stride x W/stride, float32."""
        return self.layers(x)


class SEBlock(nn.Module):
    """Squeeze and excitation: every channel is scaled by a weight from the channels' global means."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W, float32, to the same shape."""
        batch, channels = x.shape[:2]
        weight = self.fc(self.pool(x).view(batch, channels)).view(batch, channels, 1, 1)
        return x * weight.expand_as(x)


class UnexpandedResidual(nn.Module):
    """The first bottleneck of MobileNetV2: expansion 1, so the expanding convolution is left out."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU6(),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x ``in_channels`` x H x W to N x ``out_channels`` x H x W, float32."""
        return self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 at width 1 without its classifier; ``features`` is numbered as in torchvision."""

    # output channels, repetitions, stride of the first one; the expansion is 6
    GROUPS = ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        layers: list[nn.Module] = [stem, UnexpandedResidual(32, ENC2X_CHANNELS)]
        channels = ENC2X_CHANNELS
        for out_channels, repetitions, first_stride in self.GROUPS:
            for index in range(repetitions):
                stride = first_stride if index == 0 else 1
                layers.append(InvertedResidual(channels, out_channels, stride, expansion=6))
                channels = out_channels
        layers.append(
            nn.Sequential(
                nn.Conv2d(channels, ENC32X_CHANNELS, 1, bias=False),
                nn.BatchNorm2d(ENC32X_CHANNELS),
                nn.ReLU6(),
            )
        )
        self.features = nn.Sequential(*layers)


class MobileNetV2Backbone(nn.Module):
    """The encoder: taps MobileNetV2 at 1/2, 1/4 and 1/32 of the input size."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MobileNetV2()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image N x 3 x H x W, float32, to maps of 16 @ 1/2, 24 @ 1/4 and 1280 @ 1/32."""
        features = self.model.features
        enc2x = features[:2](image)
        enc4x = features[2:4](enc2x)
        return enc2x, enc4x, features[4:](enc4x)


class LRBranch(nn.Module):
    """Low resolution: where the person is."""

    def __init__(self, backbone: MobileNetV2Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.se_block = SEBlock(ENC32X_CHANNELS, reduction=4)
        self.conv_lr16x = ConvIBNormReLU(ENC32X_CHANNELS, 96, 5)
        self.conv_lr8x = ConvIBNormReLU(96, HR_CHANNELS, 5)
        self.conv_lr = PlainConv(HR_CHANNELS, 1, 3, stride=2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image N x 3 x H x W, float32, to lr8x (32 @ 1/8) and the encoder's enc2x and enc4x."""
        enc2x, enc4x, enc32x = self.backbone(image)
        lr16x = self.conv_lr16x(_upsample(self.se_block(enc32x)))
        return self.conv_lr8x(_upsample(lr16x)), enc2x, enc4x

    def semantic(self, lr8x: torch.Tensor) -> torch.Tensor:
        """The coarse matte N x 1 x H/16 x W/16, float32, 0..1, that training supervises."""
        return torch.sigmoid(self.conv_lr(lr8x))


class HRBranch(nn.Module):
    """High resolution: what the boundary looks like."""

    def __init__(self) -> None:
        super().__init__()
        hr = HR_CHANNELS
        self.tohr_enc2x = ConvIBNormReLU(ENC2X_CHANNELS, hr, 1)
        self.conv_enc2x = ConvIBNormReLU(hr + 3, hr, 3, stride=2)
        self.tohr_enc4x = ConvIBNormReLU(ENC4X_CHANNELS, hr, 1)
        self.conv_enc4x = ConvIBNormReLU(2 * hr, 2 * hr, 3)
        self.conv_hr4x = nn.Sequential(
            ConvIBNormReLU(3 * hr + 3, 2 * hr, 3),
            ConvIBNormReLU(2 * hr, 2 * hr, 3),
            ConvIBNormReLU(2 * hr, hr, 3),
        )
        self.conv_hr2x = nn.Sequential(
            ConvIBNormReLU(2 * hr, 2 * hr, 3),
            ConvIBNormReLU(2 * hr, hr, 3),
            ConvIBNormReLU(hr, hr, 3),
            ConvIBNormReLU(hr, hr, 3),
        )
        self.conv_hr = nn.Sequential(ConvIBNormReLU(hr + 3, hr, 3), PlainConv(hr, 1, 1))

    def forward(
        self, image: torch.Tensor, enc2x: torch.Tensor, enc4x: torch.Tensor, lr8x: torch.Tensor
    ) -> torch.Tensor:
        """Image N x 3 x H x W, the encoder's maps and lr8x, float32, to hr2x (32 @ 1/2)."""
        image2x = F.interpolate(image, scale_factor=1 / 2, mode="bilinear", align_corners=False)
        image4x = F.interpolate(image, scale_factor=1 / 4, mode="bilinear", align_corners=False)

        enc2x = self.tohr_enc2x(enc2x)
        hr4x = self.conv_enc2x(torch.cat([image2x, enc2x], dim=1))
        enc4x = self.tohr_enc4x(enc4x)
        hr4x = self.conv_enc4x(torch.cat([hr4x, enc4x], dim=1))
        hr4x = self.conv_hr4x(torch.cat([hr4x, _upsample(lr8x), image4x], dim=1))
        return self.conv_hr2x(torch.cat([_upsample(hr4x), enc2x], dim=1))

    def detail(self, image: torch.Tensor, hr2x: torch.Tensor) -> torch.Tensor:
        """The boundary's matte N x 1 x H x W, float32, 0..1, that training supervises."""
        return torch.sigmoid(self.conv_hr(torch.cat([_upsample(hr2x), image], dim=1)))


class FusionBranch(nn.Module):
    """Puts the low and the high resolution together to the matte."""

    def __init__(self) -> None:
        super().__init__()
        hr = HR_CHANNELS
        self.conv_lr4x = ConvIBNormReLU(hr, hr, 5)
        self.conv_f2x = ConvIBNormReLU(2 * hr, hr, 3)
        self.conv_f = nn.Sequential(ConvIBNormReLU(hr + 3, hr // 2, 3), PlainConv(hr // 2, 1, 1))

    def forward(self, image: torch.Tensor, lr8x: torch.Tensor, hr2x: torch.Tensor) -> torch.Tensor:
        """The matte N x 1 x H x W, float32, 0..1, for an image N x 3 x H x W."""
        lr4x = self.conv_lr4x(_upsample(lr8x))
        f2x = self.conv_f2x(torch.cat([_upsample(lr4x), hr2x], dim=1))
        return torch.sigmoid(self.conv_f(torch.cat([_upsample(f2x), image], dim=1)))


class MODNet(nn.Module):
    """The whole network.

    Like the official one it holds the backbone in two places, ``backbone`` and
    ``lr_branch.backbone``, so a state dict has its tensors twice (751 keys).
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MobileNetV2Backbone()
        self.lr_branch = LRBranch(self.backbone)
        self.hr_branch = HRBranch()
        self.f_branch = FusionBranch()

    def forward(
        self, image: torch.Tensor, inference: bool = True
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor]:
        """Mattes a batch of pictures.

        Args:
            image: N x 3 x H x W, float32, RGB in -1..1; H and W multiples of 32.
            inference: leaves out the two heads that only training supervises.

        Returns:
            (semantic, detail, matte), float32, 0..1: semantic N x 1 x H/16 x W/16 and detail
            N x 1 x H x W are None at inference; matte, N x 1 x H x W, is the foreground's alpha.
        """
        lr8x, enc2x, enc4x = self.lr_branch(image)
        hr2x = self.hr_branch(image, enc2x, enc4x, lr8x)
        matte = self.f_branch(image, lr8x, hr2x)
        if inference:
            return None, None, matte
        return self.lr_branch.semantic(lr8x), self.hr_branch.detail(image, hr2x), matte


def _upsample(x: torch.Tensor) -> torch.Tensor:
    """Twice the size, bilinear with half-pixel centres."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


MODNET = NetworkSpec(
    name="modnet",
    title="MODNet",
    paper="MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition, AAAI 2022, arXiv 2011.11961",
    repository="https://github.com/ZHKKKe/MODNet",
    licence="Apache-2.0 (code and models)",
    build=MODNet,
    image=ImageSpec(color="RGB", mean=(127.5, 127.5, 127.5), scale=(1 / 127.5, 1 / 127.5, 1 / 127.5)),
    size=(512, 512),
    divisor=32,
    head=Head("alpha", output=2),
    weights="The repository's README links modnet_photographic_portrait_matting.ckpt and "
    "modnet_webcam_portrait_matting.ckpt (Apache-2.0).",
    duplicates={"lr_branch.backbone.": "backbone."},
)
