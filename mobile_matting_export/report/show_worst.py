"""The frame on which an artifact is worst: picture, the network's matte, its own, and their difference made visible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mobile_matting_export.images import from_output
from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.report.page import fit_within, format_error, shrink, to_data_uri, to_grey

if TYPE_CHECKING:  # only named here; parity.py brings the whole toolchain
    from mobile_matting_export.parity import Case

_PICTURE = 320
# a difference is multiplied by the largest of these that keeps it below white
_FACTORS = (1, 2, 5, 10, 20, 50, 100)


def show_worst(case: Case, matte: np.ndarray, spec: ImageSpec) -> dict[str, Any]:
    """Four pictures as data URIs, the frame's name, the largest error, and the factor of the difference.

    Args:
        case: the frame, with the float network's alpha.
        matte: the artifact's alpha there, 1x1xHxW float32.
        spec: how the picture became the network's input.
    """
    shape = fit_within(case.picture.shape, _PICTURE)
    difference = np.abs(matte.astype(np.float64) - case.alpha.astype(np.float64))
    largest = float(np.nan_to_num(difference.max(), nan=math.inf))
    factor = next((factor for factor in reversed(_FACTORS) if factor * largest <= 1), 1)
    amplified = np.nan_to_num(difference * factor, nan=1.0).astype(np.float32)
    return {
        "name": case.name,
        "factor": factor,
        "max_abs": format_error(largest) if math.isfinite(largest) else "no number",
        "picture": to_data_uri(shrink(case.picture, _PICTURE)),
        "reference": to_data_uri(_draw(case.alpha, spec, shape)),
        "matte": to_data_uri(_draw(matte, spec, shape)),
        "difference": to_data_uri(_draw(amplified, spec, shape)),
    }


def _draw(alpha: np.ndarray, spec: ImageSpec, shape: tuple[int, int]) -> np.ndarray:
    full = (max(shape[0], alpha.shape[2]), max(shape[1], alpha.shape[3]))
    values = from_output(np.nan_to_num(alpha, nan=1.0), spec, full if spec.resize == "stretch" else shape)
    return to_grey(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_AREA))
