"""How far a quantized network's mattes are from its own in float, in the measures that a budget is written in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobile_matting_export.metrics import transition_band


@dataclass(frozen=True)
class Score:
    """Errors of alpha against the float network's, over pictures.

    ``mad_band``: mean over pictures of the mean absolute difference in the transition band, that is, where the float
    matte in 8 bits is neither 0 nor 255, and around. ``mad``: the same over whole pictures. ``worst_band``: the band's
    error on the worst picture, ``worst`` its name. ``psnr``: dB of the worst picture. ``max_abs``: the largest
    difference of all.
    """

    mad_band: float
    mad: float
    worst_band: float
    psnr: float
    max_abs: float
    worst: str


def score_mattes(names: Sequence[str], references: Sequence[np.ndarray], mattes: Sequence[np.ndarray]) -> Score:
    """Score mattes (1x1xHxW float32 in [0, 1]) against those of the float network, in float64.

    A picture without any edge has no band: its whole is counted there. Mattes that are not numbers score infinity.
    """
    bands, means, squares, largest = [], [], [], []
    for reference, matte in zip(references, mattes, strict=True):
        difference = np.abs(matte[0, 0].astype(np.float64) - reference[0, 0].astype(np.float64))
        difference[np.isnan(difference)] = math.inf
        region = transition_band(np.rint(reference[0, 0] * 255) / 255)
        bands.append(float(difference[region].mean() if region.any() else difference.mean()))
        means.append(float(difference.mean()))
        squares.append(float(np.square(difference).mean()))
        largest.append(float(difference.max()))
    worst = int(np.argmax(bands))
    return Score(
        float(np.mean(bands)),
        float(np.mean(means)),
        bands[worst],
        -10 * math.log10(max(*squares, 1e-20)),
        max(largest),
        names[worst],
    )
