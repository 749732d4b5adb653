"""The ONNX format: ``ONNX`` writes, opens and counts one ``.onnx`` interchange file."""

from __future__ import annotations

from pathlib import Path

from mobile_matting_export.formats.format import ExportGraph, Format, Session


def _emit(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    from mobile_matting_export.formats.onnx.lower import emit

    return emit(graph, precision, folder, stem)


def _open(files: tuple[Path, ...], accelerator: str) -> Session:
    from mobile_matting_export.formats.onnx.run import open_session

    return open_session(files, accelerator)


def _count_ops(files: tuple[Path, ...]) -> dict[str, int]:
    from mobile_matting_export.formats.onnx.run import count_ops

    return count_ops(files)


ONNX = Format(
    name="onnx",
    layout="NCHW",
    tools=("torch", "onnx", "onnxsim", "onnxruntime"),
    emit=_emit,
    open=_open,
    count_ops=_count_ops,
)
