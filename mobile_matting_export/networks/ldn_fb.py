"""LDN+FB: a light dense segmentation network and a feathering block that turns it into a matte.

Paper: Zhu et al., "Fast Deep Matting for Portrait Animation on Mobile Phone", ACM MM 2017,
arXiv 1707.08289. No official code or weights; where the paper's text is silent, the choices are
those of its public reimplementations (16 maps, rates 2, 4, 6, 8) and stated below.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.networks.spec import Head, ImageSpec, NetworkSpec


class LDNFB(nn.Module):
    """The network of the paper: eight convolutions, no normalization.

    Input N x 3 x H x W, RGB as (pixel - 127.5) / 127.5, H and W even (128 x 128 in the paper).
    Result (seg, alpha, a, b, c): ``seg`` N x 2 x H x W softmax scores (background, person),
    ``alpha`` N x 1 x H x W = a * S_F + b * S_B + c (equation 2), linear, so it may overshoot
    [0, 1] a little, and its three coefficient maps N x 1 x H x W. With ``window`` = k (odd) the
    coefficients are averaged over all k x k windows that contain the pixel (equation 5).
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        # as in ENet's initial block, 13 + 3 pooled input channels = 16
        self.conv1 = nn.Conv2d(3, 13, 3, stride=2, padding=1)
        self.maxpool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=2, dilation=2)
        self.conv3 = nn.Conv2d(32, 16, 3, padding=4, dilation=4)
        self.conv4 = nn.Conv2d(48, 16, 3, padding=6, dilation=6)
        self.conv5 = nn.Conv2d(64, 16, 3, padding=8, dilation=8)
        self.conv6 = nn.Conv2d(64, 2, 3, padding=1)
        self.newconvF1 = nn.Conv2d(11, 8, 3, padding=1)
        self.newconvF2 = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Segmentation, matte and feathering coefficients of the picture."""
        seg = self.segment(image)
        a, b, c = self.feather(image, seg)
        alpha = a * seg[:, 1:2] + b * seg[:, 0:1] + c
        return seg, alpha, a, b, c

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        """Softmax scores (background, person), N x 2 x H x W, of the dense network alone."""
        dense = torch.cat((self.conv1(image), self.maxpool1(image)), dim=1)
        maps = []
        for conv in (self.conv2, self.conv3, self.conv4, self.conv5):
            maps.append(F.relu(conv(dense)))
            dense = torch.cat((dense, maps[-1]), dim=1)
        scores = self.conv6(torch.cat(maps, dim=1))
        scores = F.interpolate(scores, scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.softmax(scores, dim=1)

    def feather(self, image: torch.Tensor, seg: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The coefficient maps a, b and c, each N x 1 x H x W."""
        guide = torch.cat((image, seg, image * image, image * seg[:, 1:2]), dim=1)
        maps = self.newconvF2(F.relu(self.newconvF1(guide)))
        if self.window is not None:
            maps = F.avg_pool2d(maps, self.window, stride=1, padding=self.window // 2, count_include_pad=False)
        return maps[:, 0:1], maps[:, 1:2], maps[:, 2:3]


LDN_FB = NetworkSpec(
    name="ldn_fb",
    title="LDN+FB",
    paper="Fast Deep Matting for Portrait Animation on Mobile Phone, arXiv 1707.08289",
    repository="none by the authors",
    licence="none stated by the authors; this implementation is ours",
    build=LDNFB,
    image=ImageSpec(mean=(127.5, 127.5, 127.5), scale=(1 / 127.5, 1 / 127.5, 1 / 127.5)),
    size=(128, 128),
    divisor=2,
    head=Head(kind="alpha", output=1),
    weights="The authors publish none; ours lie in models/ldn_fb.",
)
