"""What a conversion is asked to do: one network, some targets, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mobile_matting_export.int8_wish import Int8Wish
from mobile_matting_export.network import InputKind
from mobile_matting_export.quantization.budget import DEFAULT, parse_budget
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.targets import Target
from mobile_matting_export.time_forms import FormTimer


@dataclass(frozen=True)
class Job:
    """What to make of one network. None means: the target's own default.

    ``precision``, ``max_error`` and ``max_mad`` hold for every target; ``backend`` is the
    converter for TFLite targets. ``fallback`` says whether a tflite-gpu file may leave operations to the CPU.
    ``input`` says how pictures enter the files. ``overwrite`` says which existing output folders may be replaced.
    With a ``cache`` an artifact made and verified before from the same inputs is taken from there.
    With a ``form_timer`` the choices of a target's row are decided by timing. ``int8`` says what is wanted of artifacts
    of that precision.
    """

    targets: Sequence[Target]
    output: Path
    precision: str | None = None
    max_error: float | None = None
    max_mad: float | None = None
    images: Path | None = None
    backend: str = "litert-torch"
    overwrite: Literal["ours", "anything"] = "ours"
    cache: ResultCache | None = None
    input: InputKind = "float"
    fallback: Literal["refuse", "allow"] = "refuse"
    form_timer: FormTimer | None = None
    int8: Int8Wish = field(default_factory=lambda: Int8Wish(None, parse_budget(DEFAULT)))
