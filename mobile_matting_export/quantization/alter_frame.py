"""Make another frame of a calibration frame, for training that needs no labels: shifted, enlarged, mirrored, relit."""

from __future__ import annotations

import torch
from torch.nn import functional as F

# of each side, at the least; smaller pieces look like no portrait any more
_SMALLEST_PIECE = 0.7
_CROPPED = 0.7
_CONTRAST = 0.3
# of the frame's own range, up and down
_BRIGHTNESS = 0.1

Frame = tuple[torch.Tensor, ...]
"""Positional inputs of a graph, float32 1xCxHxW each; the image first, then states."""


def alter_frame(frame: Frame, generator: torch.Generator) -> Frame:
    """The frame with chance changes: a piece of it at its old size, mirrored, with other contrast and brightness.

    All inputs are cut and mirrored alike; light changes in the image alone, within the lowest and highest value that
    it had. The same state of the generator gives the same frame.
    """
    cut, share, down, right, mirror, contrast, brightness = torch.rand(7, generator=generator).tolist()
    share = 1 - (1 - _SMALLEST_PIECE) * share if cut < _CROPPED else 1.0
    image, *states = (_piece(value, share, down, right, mirror) for value in frame)
    low, high = frame[0].amin(), frame[0].amax()
    middle = image.mean()
    relit = middle + (image - middle) * (1 + _CONTRAST * (2 * contrast - 1))
    return ((relit + (high - low) * _BRIGHTNESS * (2 * brightness - 1)).clamp(low, high), *states)


def _piece(value: torch.Tensor, share: float, down: float, right: float, mirror: float) -> torch.Tensor:
    height, width = value.shape[2:]
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, left = round((height - rows) * down), round((width - columns) * right)
    piece = value[:, :, top : top + rows, left : left + columns]
    if (rows, columns) != (height, width):
        piece = F.interpolate(piece, (height, width), mode="bilinear", align_corners=False)
    return piece.flip(3) if mirror < 0.5 else piece
