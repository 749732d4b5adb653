"""TFLite: files for Android's LiteRT runtime, on the CPU (XNNPACK) or a GPU delegate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.formats.format import ExportGraph, Format, Int8, Session

if TYPE_CHECKING:  # a process that only runs a file needs no torch
    import torch


def _emit(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    from mobile_matting_export.formats.tflite.lower import emit

    return emit(graph, precision, folder, stem)


def _narrow(files: tuple[Path, ...], precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    from mobile_matting_export.formats.tflite.lower import narrow

    return narrow(files, precision, folder, stem)


def _open(files: tuple[Path, ...], accelerator: str) -> Session:
    from mobile_matting_export.formats.tflite.run import open_session

    return open_session(files, accelerator)


def _count_ops(files: tuple[Path, ...]) -> dict[str, int]:
    from mobile_matting_export.formats.tflite.read_file import count_ops

    return count_ops(files)


def emit_from_onnx(
    onnx_path: Path, example_inputs: dict[str, torch.Tensor], precision: str, folder: Path, stem: str
) -> tuple[Path, ...]:
    """Write ``folder/stem.tflite`` from an ONNX file with onnx2tf, the second opinion; see lower_onnx2tf.py."""
    from mobile_matting_export.formats.tflite import lower_onnx2tf

    return lower_onnx2tf.emit_from_onnx(onnx_path, example_inputs, precision, folder, stem)


def require_onnx2tf() -> None:
    """Refuse at once where the extra ``[tensorflow]`` is missing (``UsageError``)."""
    from mobile_matting_export.formats.tflite import lower_onnx2tf

    lower_onnx2tf.require_packages()


def _int8() -> tuple[Int8, ...]:
    from mobile_matting_export.formats.tflite.int8_ways import WAYS

    return WAYS


def _read_ends(files: tuple[Path, ...]) -> dict[str, dict[str, Any]]:
    from mobile_matting_export.formats.tflite.read_ends import read_ends

    return read_ends(files)


def _weights_only(files: tuple[Path, ...], folder: Path, stem: str) -> tuple[Path, ...]:
    from mobile_matting_export.formats.tflite.quantize_weights import weights_only

    return weights_only(files, folder, stem)


TFLITE = Format(
    name="tflite",
    layout="NHWC",
    tools=("litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer"),
    emit=_emit,
    open=_open,
    count_ops=_count_ops,
    narrow=_narrow,
    int8=_int8,
    weights_only=_weights_only,
    read_ends=_read_ends,
)

ONNX2TF_TOOLS = ("onnx2tf", "tensorflow", "tf_keras", "ai-edge-litert")
"""The distributions that wrote a file of ``emit_from_onnx``, for its manifest."""
