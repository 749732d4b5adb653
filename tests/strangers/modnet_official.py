"""MODNet in the style of its published code: what of it converters stumble over.

Paper: Z. Ke, J. Sun, K. Li, Q. Yan, R. W. H. Lau, "MODNet: Real-Time Trimap-Free Portrait Matting via Objective
Decomposition", AAAI 2022. Our own code for the published keys (ZHKKKe/MODNet, Apache-2.0).

The backbone is registered twice (``backbone`` and ``lr_branch.backbone``), squeeze-and-excite works on two-dimensional
tensors and ``expand_as``, every channel is half batch, half instance norm, sizes are scale factors, and a
forward pass gives three results of which two are None at inference. ``build`` returns matte alone, as a user would
wrap it; ``softmax_scores`` has a head of two classes with a functional softmax instead.

Input: RGB, (pixel - 127.5) / 127.5, sides multiples of 32. Output: alpha.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# expansion, channels, repeats, stride: MobileNetV2
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class IBNorm(nn.Module):
    """Batch norm on the first half of the channels, instance norm on the second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.bnorm = nn.BatchNorm2d(self.half, affine=True)
        self.inorm = nn.InstanceNorm2d(channels - self.half, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.bnorm(x[:, : self.half, ...].contiguous())
        second = self.inorm(x[:, self.half :, ...].contiguous())
        return torch.cat((first, second), 1)


class ConvIBNormReLU(nn.Module):
    def __init__(self, inp: int, out: int, kernel: int, stride: int = 1, plain: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inp, out, kernel, stride, kernel // 2)]
        if not plain:
            layers += [IBNorm(out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class SEBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            *(nn.Linear(channels, channels // 4, bias=False), nn.ReLU(inplace=True)),
            *(nn.Linear(channels // 4, channels, bias=False), nn.Sigmoid()),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, _, _ = x.size()
        weight = self.fc(self.pool(x).view(batch, channels)).view(batch, channels, 1, 1)
        return x * weight.expand_as(x)


class InvertedResidual(nn.Module):
    def __init__(self, inp: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inp * expansion
        self.residual = stride == 1 and inp == out
        layers: list[nn.Module] = []
        if expansion != 1:
            layers = [nn.Conv2d(inp, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        layers += [depthwise, nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        self.conv = nn.Sequential(*layers, nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True))
        features: list[nn.Module] = [first]
        inp = 32
        for expansion, out, repeats, stride in STAGES:
            for i in range(repeats):
                features.append(InvertedResidual(inp, out, stride if i == 0 else 1, expansion))
                inp = out
        features.append(
            nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6(inplace=True))
        )
        self.features = nn.Sequential(*features)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = MobileNetV2()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        taps = []
        for i, layer in enumerate(self.model.features):
            x = layer(x)
            if i in (1, 3, 6, 13, 18):
                taps.append(x)
        return taps


def up(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class LRBranch(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.se_block = SEBlock(1280)
        self.conv_lr16x = ConvIBNormReLU(1280, 96, 5)
        self.conv_lr8x = ConvIBNormReLU(96, 32, 5)
        self.conv_lr = ConvIBNormReLU(32, 1, 3, 2, plain=True)

    def forward(
        self, img: torch.Tensor, inference: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor, list[torch.Tensor]]:
        enc2x, enc4x, _, _, enc32x = self.backbone(img)
        lr8x = self.conv_lr8x(up(self.conv_lr16x(up(self.se_block(enc32x)))))
        semantic = None if inference else torch.sigmoid(self.conv_lr(lr8x))
        return semantic, lr8x, [enc2x, enc4x]


class HRBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tohr_enc2x = ConvIBNormReLU(16, 32, 1)
        self.conv_enc2x = ConvIBNormReLU(35, 32, 3, 2)
        self.tohr_enc4x = ConvIBNormReLU(24, 32, 1)
        self.conv_enc4x = ConvIBNormReLU(64, 64, 3)
        self.conv_hr4x = nn.Sequential(*(ConvIBNormReLU(i, o, 3) for i, o in ((99, 64), (64, 64), (64, 32))))
        self.conv_hr2x = nn.Sequential(*(ConvIBNormReLU(i, o, 3) for i, o in ((64, 64), (64, 32), (32, 32), (32, 32))))
        self.conv_hr = nn.Sequential(ConvIBNormReLU(35, 32, 3), ConvIBNormReLU(32, 1, 1, plain=True))

    def forward(
        self, img: torch.Tensor, enc2x: torch.Tensor, enc4x: torch.Tensor, lr8x: torch.Tensor, inference: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        img2x = F.interpolate(img, scale_factor=1 / 2, mode="bilinear", align_corners=False)
        img4x = F.interpolate(img, scale_factor=1 / 4, mode="bilinear", align_corners=False)
        enc2x = self.tohr_enc2x(enc2x)
        hr4x = self.conv_enc2x(torch.cat((img2x, enc2x), dim=1))
        hr4x = self.conv_enc4x(torch.cat((hr4x, self.tohr_enc4x(enc4x)), dim=1))
        hr4x = self.conv_hr4x(torch.cat((hr4x, up(lr8x), img4x), dim=1))
        hr2x = self.conv_hr2x(torch.cat((up(hr4x), enc2x), dim=1))
        detail = None if inference else torch.sigmoid(self.conv_hr(torch.cat((up(hr2x), img), dim=1)))
        return detail, hr2x


class FusionBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_lr4x = ConvIBNormReLU(32, 32, 5)
        self.conv_f2x = ConvIBNormReLU(64, 32, 3)
        self.conv_f = nn.Sequential(ConvIBNormReLU(35, 16, 3), ConvIBNormReLU(16, 1, 1, plain=True))

    def forward(self, img: torch.Tensor, lr8x: torch.Tensor, hr2x: torch.Tensor) -> torch.Tensor:
        lr2x = up(self.conv_lr4x(up(lr8x)))
        f2x = self.conv_f2x(torch.cat((lr2x, hr2x), dim=1))
        return self.conv_f(torch.cat((up(f2x), img), dim=1))


class MODNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.lr_branch = LRBranch(self.backbone)
        self.hr_branch = HRBranch()
        self.f_branch = FusionBranch()

    def forward(
        self, img: torch.Tensor, inference: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor]:
        semantic, lr8x, (enc2x, enc4x) = self.lr_branch(img, inference)
        detail, hr2x = self.hr_branch(img, enc2x, enc4x, lr8x, inference)
        return semantic, detail, self.fused(img, lr8x, hr2x)

    def fused(self, img: torch.Tensor, lr8x: torch.Tensor, hr2x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.f_branch(img, lr8x, hr2x))


class Inference(MODNet):
    """The three results at inference: None, None and the matte."""

    def forward(self, img: torch.Tensor) -> tuple[None, None, torch.Tensor]:  # type: ignore[override]
        return super().forward(img, True)  # type: ignore[return-value]


class SoftmaxScores(Inference):
    """The matte as the second of two classes: the background's score is 0."""

    def fused(self, img: torch.Tensor, lr8x: torch.Tensor, hr2x: torch.Tensor) -> torch.Tensor:
        logit = self.f_branch(img, lr8x, hr2x)
        return F.softmax(torch.cat([torch.zeros_like(logit), logit], 1), dim=1)


def build() -> nn.Module:
    return Inference()


def softmax_scores() -> nn.Module:
    return SoftmaxScores()
