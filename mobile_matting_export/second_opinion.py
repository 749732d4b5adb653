"""TFLite by way of ONNX and onnx2tf: a second converter for the same rewritten graph."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.onnx import ONNX
from mobile_matting_export.formats.tflite import emit_from_onnx, require_onnx2tf

__all__ = ["emit_by_onnx2tf", "require_onnx2tf"]


def emit_by_onnx2tf(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``folder/stem.tflite`` from the graph's ONNX form; same contract as ``Format.emit``.

    Raises:
        UsageError: the extra ``[tensorflow]`` is not installed, the picture is to enter as bytes, or the
            network returns states.
        ConversionError: one of the two converters failed.
    """
    if graph.byte_inputs:
        raise UsageError("--backend onnx2tf makes files that take floats only: use --input pixels")
    if len(graph.outputs) > 1:
        raise UsageError(
            f"--backend onnx2tf makes files that return alpha only, not {', '.join(graph.outputs[1:])}: leave it out"
        )
    with tempfile.TemporaryDirectory(prefix="mmexport-onnx-") as scratch:
        (onnx_file,) = ONNX.emit(graph, "fp32", Path(scratch), stem)
        return emit_from_onnx(onnx_file, dict(graph.inputs), precision, folder, stem)
