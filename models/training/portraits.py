"""Portraits with mattes held in memory as uint8, and person-free patches to paste behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F


@dataclass(frozen=True)
class Portraits:
    """Pictures of one common size: ``image`` N x 3 x H x W RGB and ``alpha`` N x 1 x H x W, uint8."""

    names: tuple[str, ...]
    image: torch.Tensor
    alpha: torch.Tensor

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.names)


def load_portraits(folder: Path, list_name: str) -> Portraits:
    """Read the pictures of ``folder`` whose ids stand, one a line, in ``folder/list_name``.

    ``folder/image/ID.jpg`` and ``folder/alpha/ID.png`` must all have the same size.
    """
    names = tuple((folder / list_name).read_text().split())
    images = [np.asarray(Image.open(folder / "image" / f"{n}.jpg").convert("RGB")) for n in names]
    alphas = [np.asarray(Image.open(folder / "alpha" / f"{n}.png").convert("L")) for n in names]
    return from_arrays(names, images, alphas)


def from_arrays(names: tuple[str, ...], images: list[np.ndarray], alphas: list[np.ndarray]) -> Portraits:
    """Stack uint8 pictures H x W x 3 and mattes H x W of one common size."""
    image = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Portraits(names, image, torch.from_numpy(np.stack(alphas))[:, None].contiguous())


def empty_patches(portraits: Portraits, rng: np.random.Generator, tries: int = 60) -> torch.Tensor:
    """Person-free patches of the pictures, each enlarged to the full size: M x 3 x H x W uint8.

    For each picture the largest of ``tries`` random rectangles without any matte is taken; a
    picture with none of at least a fortieth of its area gives no patch.
    """
    height, width = portraits.image.shape[-2:]
    patches = []
    for image, alpha in zip(portraits.image, portraits.alpha, strict=True):
        sums = np.pad((alpha[0].numpy() > 8).astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        best, area = None, height * width // 40
        for _ in range(tries):
            h, w = rng.integers(height // 8, height), rng.integers(width // 8, width)
            y, x = rng.integers(0, height - h), rng.integers(0, width - w)
            if h * w > area and sums[y + h, x + w] - sums[y, x + w] - sums[y + h, x] + sums[y, x] == 0:
                best, area = image[:, y : y + h, x : x + w], h * w
        if best is not None:
            patch = F.interpolate(best[None].float(), (height, width), mode="bilinear", align_corners=False)
            patches.append(patch[0].to(torch.uint8))
    return torch.stack(patches) if patches else torch.zeros(0, 3, height, width, dtype=torch.uint8)
