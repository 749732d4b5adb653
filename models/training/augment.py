"""Random variations of a batch of portraits: geometry, background, colour, sharpness, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

LUMA = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Variation:
    """How far the pictures are varied, besides magnification (which each batch is given).

    ``background_share`` of the persons get another background; ``distant_share`` are made smaller
    and stood at the bottom of another background, wider than their own picture.
    """

    rotation_degrees: float = 7.0
    aspect: float = 0.1
    shift: float = 0.08
    background_share: float = 0.2
    distant_share: float = 0.08


class Augmenter:
    """Draws random batches, float32 RGB in 0..1 N x 3 x S x S with alpha N x 1 x S x S in 0..1."""

    def __init__(
        self, image: torch.Tensor, alpha: torch.Tensor, patches: torch.Tensor, variation: Variation, seed: int
    ) -> None:
        self.image, self.alpha, self.patches = image, alpha, patches
        self.variation = variation
        self.random = torch.Generator().manual_seed(seed)
        self.queue = torch.zeros(0, dtype=torch.long)

    def batch(self, count: int, size: int, zoom: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
        """The next ``count`` pictures of an endless shuffled order, varied, at size x size.

        ``zoom`` is the range of magnification; 1 shows the whole picture.
        """
        while len(self.queue) < count:
            self.queue = torch.cat((self.queue, torch.randperm(len(self.image), generator=self.random)))
        picked, self.queue = self.queue[:count], self.queue[count:]
        both = torch.cat((self.image[picked], self.alpha[picked]), dim=1).float() / 255
        distant = self._chance(count, self.variation.distant_share)
        grid = self._grid(size, self._magnification(distant, zoom), distant)
        both = self._warp(both, grid, size)
        inside = (grid.abs() <= 1).all(dim=-1)[:, None] | ~distant[:, None, None, None]
        image, alpha = both[:, :3], both[:, 3:] * inside
        image = self._replace_background(image, alpha, distant)
        return self.degrade(image), alpha.clamp(0, 1)

    def degrade(self, image: torch.Tensor) -> torch.Tensor:
        """Other colours, less detail and noise at random for pictures in 0..1, which keep their geometry."""
        return self._lose_detail(self._recolour(image)).clamp_(0, 1)

    def _uniform(self, count: int, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=self.random)

    def _chance(self, count: int, share: float) -> torch.Tensor:
        return torch.rand(count, generator=self.random) < share

    def _magnification(self, distant: torch.Tensor, zoom: tuple[float, float]) -> torch.Tensor:
        near = torch.exp(self._uniform(len(distant), math.log(zoom[0]), math.log(zoom[1])))
        return torch.where(distant, zoom[0] * self._uniform(len(distant), 0.5, 1.0), near)

    def _grid(self, size: int, zoom: torch.Tensor, distant: torch.Tensor) -> torch.Tensor:
        """Sampling positions N x S x S x 2 of random mirror, zoom, aspect, rotation and shift."""
        v, count = self.variation, len(zoom)
        stretch = torch.exp(self._uniform(count, -v.aspect, v.aspect))
        mirror = torch.where(self._chance(count, 0.5), -1.0, 1.0)
        angle = torch.randn(count, generator=self.random) * math.radians(v.rotation_degrees) * ~distant
        # a magnified picture may be cropped anywhere near where the portrait is
        room = (1 - 1 / zoom).clamp(min=0) * 0.8 + v.shift
        sx, sy = 1 / (zoom * stretch), stretch / zoom
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 0, 1] = mirror * sx * angle.cos(), -sy * angle.sin()
        theta[:, 1, 0], theta[:, 1, 1] = mirror * sx * angle.sin(), sy * angle.cos()
        theta[:, :, 2] = (torch.rand(count, 2, generator=self.random) * 2 - 1) * room[:, None]
        # a distant person's picture ends where the new one does
        theta[:, 1, 2] = torch.where(distant, 1 - sy, theta[:, 1, 2])
        return F.affine_grid(theta, [count, 4, size, size], align_corners=False)

    def _warp(self, both: torch.Tensor, grid: torch.Tensor, size: int) -> torch.Tensor:
        # below the picture's own size bilinear sampling alone would alias
        height, width = both.shape[-2:]
        if size * 1.4 < height:
            both = F.interpolate(both, (int(size * 1.4), min(width, int(size * 1.4))), mode="area")
        return F.grid_sample(both, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _replace_background(self, image: torch.Tensor, alpha: torch.Tensor, needed: torch.Tensor) -> torch.Tensor:
        chosen = (needed | self._chance(len(image), self.variation.background_share)).nonzero()[:, 0]
        if not len(chosen):
            return image
        behind = self._backgrounds(len(chosen), image.shape[-1])
        image = image.clone()
        image[chosen] = image[chosen] * alpha[chosen] + behind * (1 - alpha[chosen])
        return image

    def _backgrounds(self, count: int, size: int) -> torch.Tensor:
        """Person-free patches, strongly blurred pictures, and smooth colour noise, in equal shares."""
        kind = torch.randint(0, 3, (count,), generator=self.random)
        result = torch.empty(count, 3, size, size)
        for i in range(count):
            if kind[i] == 0 and len(self.patches):
                source = self.patches[torch.randint(len(self.patches), (1,), generator=self.random)]
                source = source.float() / 255
            elif kind[i] <= 1:
                source = self.image[torch.randint(len(self.image), (1,), generator=self.random)]
                source = source[:, :, ::4, ::4].float() / 255
                coarse = int(torch.randint(4, 20, (1,), generator=self.random))
                source = F.adaptive_avg_pool2d(source, coarse)
            else:
                cells = int(torch.randint(2, 24, (1,), generator=self.random))
                source = torch.rand(1, 3, 1, 1, generator=self.random) + 0.35 * (
                    torch.rand(1, 3, cells, cells, generator=self.random) - 0.5
                )
            result[i] = F.interpolate(source, (size, size), mode="bilinear", align_corners=False)[0]
        return result

    def _recolour(self, image: torch.Tensor) -> torch.Tensor:
        """Brightness, contrast, tint, saturation and grey as one 3x3 matrix, then gamma."""
        count = len(image)
        colourful = self._uniform(count, 0.5, 1.5) * (~self._chance(count, 0.1)).float()
        contrast, brightness = self._uniform(count, 0.75, 1.3), self._uniform(count, -0.1, 0.1)
        tint = 1 + (torch.rand(count, 3, generator=self.random) - 0.5) * 0.2
        grey = LUMA.expand(3, 3)
        # a grey picture stays grey
        tint = torch.where(colourful[:, None] > 0, tint, 1.0)
        mix = colourful[:, None, None] * torch.eye(3) + (1 - colourful)[:, None, None] * grey
        matrix = mix * (contrast[:, None] * tint)[:, :, None]
        middle = image.mean(dim=(1, 2, 3))
        offset = brightness + middle * (1 - contrast)
        flat = torch.baddbmm(offset[:, None, None].expand(-1, 3, 1), matrix, image.flatten(2))
        gamma = torch.exp(self._uniform(count, -0.3, 0.3))
        return flat.clamp(1e-4, 1).pow(gamma[:, None, None]).view_as(image)

    def _lose_detail(self, image: torch.Tensor) -> torch.Tensor:
        """Some pictures lose resolution, some are blurred (by the same means), some get noise."""
        size = image.shape[-1]
        for i in self._chance(len(image), 0.2).nonzero()[:, 0]:
            small = int(size * float(self._uniform(1, 0.35, 0.8)))
            low = F.interpolate(image[i : i + 1], (small, small), mode="area")
            image[i] = F.interpolate(low, (size, size), mode="bilinear", align_corners=False)[0]
        noisy = self._chance(len(image), 0.3).nonzero()[:, 0]
        if len(noisy):
            strength = self._uniform(len(noisy), 0.005, 0.05)[:, None, None, None]
            image[noisy] += strength * torch.randn(len(noisy), *image.shape[1:], generator=self.random)
        return image
