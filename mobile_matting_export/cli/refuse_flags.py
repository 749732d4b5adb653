"""Flags of ``convert`` that say nothing to any of the targets asked for: refused, not passed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from mobile_matting_export.errors import UsageError

if TYPE_CHECKING:
    from mobile_matting_export.targets import Target

_WITH_DELEGATE = "tflite-gpu"


def refuse_flags(rows: Sequence[Target], backend: str) -> None:
    """Check ``--backend`` and ``--allow-fallback`` of the running command against its targets.

    Raises:
        UsageError: onnx2tf beside a target that is not TFLite, or a fallback where no target has a GPU delegate.
    """
    if backend == "onnx2tf" and {row.format.name for row in rows} != {"tflite"}:
        raise UsageError("--backend onnx2tf is for TFLite targets only: tflite-cpu, tflite-gpu")
    # mmexport.toml and the environment speak for many calls: what they allow need not concern this one
    asked = click.get_current_context().get_parameter_source("allow_fallback") is ParameterSource.COMMANDLINE
    if asked and not any(row.name == _WITH_DELEGATE for row in rows):
        raise UsageError(
            f"--allow-fallback is about operations that leave the GPU delegate of {_WITH_DELEGATE}: "
            f"{', '.join(row.name for row in rows)} has none; leave the flag out, or add --target {_WITH_DELEGATE}"
        )
