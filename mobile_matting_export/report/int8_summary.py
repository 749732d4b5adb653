"""What an int8 artifact kept and costs, in one line: for the terminal and for the head of its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summarize_int8(manifest: Mapping[str, Any]) -> str:
    """``158 of 164 layers, MAD in the band 0.0053, 53 % of the budget mad_band=0.01, worst picture 32.6 dB, ...``.

    Args:
        manifest: schema mmexport.manifest/1, of an int8 artifact.
    """
    found = manifest["quantization"]
    held, layers = found["held_out"], found["layers_int8"]
    budget = ",".join(f"{name}={limit:g}" for name, limit in found["budget"].items())
    size = sum(file["bytes"] for file in manifest["files"])
    return ", ".join(
        [
            f"{layers} of {layers + len(found['layers_float'])} layers",
            f"MAD in the band {as_error(held['mad_band'])}",
            f"{as_percent(held['used'])} of the budget {budget}",
            f"worst picture {as_decibels(held['psnr'])}",
            f"file {size / found['fp32_bytes']:.2f} of fp32",
        ]
    )


def as_error(value: float | None) -> str:
    """Two digits; None is what was no number."""
    return "no number" if value is None else f"{value:.2g}"


def as_percent(share: float | None) -> str:
    """Whole percent; None is what was no number."""
    return "? %" if share is None else f"{100 * share:.0f} %"


def as_decibels(value: float | None) -> str:
    """One digit behind the point; None is a matte that was no number."""
    return "no number" if value is None else f"{value:.1f} dB"
