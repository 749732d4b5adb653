"""The ONNX format: ``ONNX`` writes, opens and counts one ``.onnx`` interchange file."""

from __future__ import annotations

from mobile_matting_export.formats.format import Format
from mobile_matting_export.formats.onnx.lower import emit
from mobile_matting_export.formats.onnx.run import count_ops, open_session

ONNX = Format(
    name="onnx",
    layout="NCHW",
    tools=("torch", "onnx", "onnxsim", "onnxruntime"),
    emit=emit,
    open=open_session,
    count_ops=count_ops,
)

__all__ = ["ONNX"]
