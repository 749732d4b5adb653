"""Write the demo's page: one network, every target, the same pictures side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.composite import composite, parse_background
from mobile_matting_export.matte import DEFAULT_BACKGROUND
from mobile_matting_export.report.page import render_page, shrink, to_data_uri, to_grey, write_page

# longest side in pixels, on the page and while composed: finer, so that the edges are averaged
_SHOWN, _WORKING_SIZE = 320, 640

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# how Mesa's Vulkan device without a GPU names itself
_SOFTWARE_DEVICE = "llvmpipe"


@dataclass(frozen=True)
class Mattes:
    """A picture, uint8 H x W x 3 RGB; the alpha float32 H x W that PyTorch and each artifact made of it."""

    name: str
    picture: np.ndarray
    reference: np.ndarray
    alphas: Sequence[np.ndarray]


def write_demo_page(
    path: Path,
    artifacts: Sequence[Artifact],
    medians_ms: Sequence[float],
    timing_note: str,
    pictures: Sequence[Mattes],
) -> None:
    """Write one self-contained page that links each artifact's own report.

    Args:
        path: the .html file; its folder exists.
        artifacts: in the order of the columns.
        medians_ms: median time of a frame, per artifact.
        timing_note: how that was measured.
        pictures: with one alpha per artifact.
    """
    values = {
        "network": artifacts[0].manifest["network"]["name"],
        "files": _NUMBERS[len(artifacts)] if len(artifacts) < len(_NUMBERS) else str(len(artifacts)),
        "artifacts": [
            _describe(artifact, median, path.parent) for artifact, median in zip(artifacts, medians_ms, strict=True)
        ],
        "timing_note": timing_note,
        "pictures": [_show(mattes) for mattes in pictures],
    }
    write_page(path, render_page("demo_page.html.j2", values))


def _describe(artifact: Artifact, median_ms: float, page_folder: Path) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "target": manifest["target"],
        "precision": manifest["precision"],
        "folder": artifact.folder.as_posix(),
        "link": Path(os.path.relpath(artifact.folder, page_folder)).as_posix(),
        "bytes": sum(file["bytes"] for file in manifest["files"]),
        "ops": manifest["cost"]["ops"],
        "parity": manifest["parity"],
        "on_software": _SOFTWARE_DEVICE in manifest["parity"]["device"],
        "median_ms": median_ms,
    }


def _show(mattes: Mattes) -> dict[str, Any]:
    picture = shrink(mattes.picture, _WORKING_SIZE)
    behind = parse_background(DEFAULT_BACKGROUND, picture.shape)
    alphas = [shrink(alpha, _WORKING_SIZE) for alpha in mattes.alphas]
    return {
        "name": mattes.name,
        "picture": to_data_uri(shrink(picture, _SHOWN)),
        "reference": to_data_uri(to_grey(shrink(mattes.reference, _SHOWN))),
        "cells": [
            {
                "composite": to_data_uri(shrink(composite(picture, alpha, behind), _SHOWN)),
                "alpha": to_data_uri(to_grey(shrink(alpha, _SHOWN))),
            }
            for alpha in alphas
        ],
    }
