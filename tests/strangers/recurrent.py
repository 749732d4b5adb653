"""Networks of video: one takes the alpha of the frame before, others keep a hidden state at a quarter of the size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

HIDDEN = 8


class ConvGRU(nn.Module):
    """Gated recurrent unit of convolutions (Ballas et al., arXiv 1511.06432), gates in one convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        update, reset = torch.sigmoid(self.gates(torch.cat([x, hidden], dim=1))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * hidden], dim=1)))
        return (1 - update) * hidden + update * candidate


class Recurrent(nn.Module):
    """Encoder to 1/4, ConvGRU, decoder with a skip; returns alpha and the hidden state."""

    state_inputs = {"hidden": (HIDDEN, 1 / 4)}  # noqa: RUF012 - as a stranger writes it

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(8, HIDDEN, 3, 2, 1, bias=False), nn.BatchNorm2d(HIDDEN), nn.PReLU(HIDDEN))
        self.gru = ConvGRU(HIDDEN)
        self.decode = nn.Sequential(nn.Conv2d(HIDDEN + 8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.stem(image)
        hidden = self.gru(self.down(fine), hidden)
        up = F.interpolate(hidden, size=fine.shape[2:], mode="bilinear", align_corners=False)
        scores = self.head(self.decode(torch.cat([up, fine], dim=1)))
        scores = F.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=False)
        return torch.softmax(scores, dim=1)[:, 1:], hidden


class PreviousMask(nn.Module):
    """Takes the alpha of the frame before and returns alpha; no declaration needed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU())
        self.mask = nn.Conv2d(1, 8, 3, 2, 1)
        self.head = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, image: torch.Tensor, previous_alpha: torch.Tensor) -> torch.Tensor:
        x = self.stem(torch.cat([image, previous_alpha], dim=1)) * torch.sigmoid(self.mask(previous_alpha))
        return torch.sigmoid(F.interpolate(self.head(x), scale_factor=2, mode="bilinear"))


class Both(nn.Module):
    """A previous alpha, two hidden states of which one may be left out by other callers, and results by name."""

    state_inputs = {"r1": (8, 1 / 2), "r2": (HIDDEN, 1 / 4)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, 2, 1)
        self.down = nn.Conv2d(8, HIDDEN, 3, 2, 1)
        self.fine, self.coarse = ConvGRU(8), ConvGRU(HIDDEN)
        self.head = nn.Conv2d(8 + HIDDEN, 1, 3, padding=1)

    def forward(
        self, image: torch.Tensor, mask: torch.Tensor, r1: torch.Tensor, r2: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        r1 = self.fine(F.relu(self.stem(torch.cat([image, mask], dim=1))), r1)
        features = F.relu(self.down(r1))
        r2 = self.coarse(features, torch.zeros_like(features) if r2 is None else r2)
        up = F.interpolate(r2, scale_factor=2, mode="nearest")
        alpha = torch.sigmoid(F.interpolate(self.head(torch.cat([r1, up], dim=1)), scale_factor=2, mode="bilinear"))
        return {"r2": r2, "alpha": alpha, "r1": r1}


def _seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = kind()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(3)  # else a state hardly moves the matte
    return net


def recurrent() -> nn.Module:
    """Hidden state in and out."""
    return _seeded(Recurrent)


def previous_mask() -> nn.Module:
    """Previous alpha in."""
    return _seeded(PreviousMask)


def both() -> nn.Module:
    """Previous alpha in, two states in and out."""
    return _seeded(Both)
