"""TFLite: files for Android's LiteRT runtime, on the CPU (XNNPACK) or a GPU delegate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.formats.format import ExportGraph, Format, Int8, Session

if TYPE_CHECKING:  # a process that only runs a file needs no torch
    import numpy as np
    import torch
    from torch import fx

    from mobile_matting_export.quantization.histogram import Histogram
    from mobile_matting_export.quantization.io_kind import IoKind
    from mobile_matting_export.quantization.layer import QuantizableLayer
    from mobile_matting_export.quantization.ranges import Method, Range


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


def _list_layers(files: tuple[Path, ...], _: fx.GraphModule) -> tuple[QuantizableLayer, ...]:
    # names of tensors tell the modules
    from mobile_matting_export.formats.tflite.list_int8_layers import list_int8_layers

    return list_int8_layers(files)


def _always_float(files: tuple[Path, ...]) -> frozenset[str]:
    from mobile_matting_export.formats.tflite.list_int8_layers import list_tail

    return list_tail(files)


def _observe(files: tuple[Path, ...], frames: Sequence[Mapping[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    from mobile_matting_export.formats.tflite.quantize_int8 import observe

    return observe(files, frames)


def _choose(histogram: Histogram, method: Method) -> Range:
    from mobile_matting_export.quantization.choose_range import choose_range

    return choose_range(histogram, method)


def _quantize(
    files: tuple[Path, ...],
    ranges: Mapping[str, Range],
    keep_float: frozenset[str],
    folder: Path,
    stem: str,
    _: Mapping[str, np.ndarray],
) -> tuple[Path, ...]:
    from mobile_matting_export.formats.tflite.quantize_int8 import quantize

    return quantize(files, ranges, keep_float, folder, stem)


def _quantize_ends(files: tuple[Path, ...], ranges: Mapping[str, Range], io: IoKind) -> None:
    from mobile_matting_export.formats.tflite.quantize_ends import quantize_ends

    quantize_ends(files[0], io, ranges)


def _read_ends(files: tuple[Path, ...]) -> dict[str, dict[str, Any]]:
    from mobile_matting_export.formats.tflite.read_ends import read_ends

    return read_ends(files)


def _list_convolutions(files: tuple[Path, ...], _: fx.GraphModule) -> tuple[QuantizableLayer, ...]:
    from mobile_matting_export.formats.tflite.quantize_dynamic import list_dynamic_layers

    return list_dynamic_layers(files)


def _slower_when_dynamic(files: tuple[Path, ...]) -> frozenset[str]:
    from mobile_matting_export.formats.tflite.quantize_dynamic import list_slower_layers

    return list_slower_layers(files)


def _observe_nothing(_: tuple[Path, ...], __: Sequence[Mapping[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    return iter(())  # ranges are found at run time


def _quantize_dynamic(
    files: tuple[Path, ...],
    _: Mapping[str, Range],
    keep_float: frozenset[str],
    folder: Path,
    stem: str,
    __: Mapping[str, np.ndarray],
) -> tuple[Path, ...]:
    from mobile_matting_export.formats.tflite.quantize_dynamic import quantize_dynamic

    return quantize_dynamic(files, keep_float, folder, stem)


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
    int8=(
        Int8(
            "static",
            _list_layers,
            _always_float,
            _observe,
            _choose,
            _quantize,
            "operations",
            quantize_ends=_quantize_ends,
        ),
        Int8(
            "dynamic", _list_convolutions, _slower_when_dynamic, _observe_nothing, _choose, _quantize_dynamic, "dynamic"
        ),
    ),
    weights_only=_weights_only,
    read_ends=_read_ends,
)

ONNX2TF_TOOLS = ("onnx2tf", "tensorflow", "tf_keras", "ai-edge-litert")
"""The distributions that wrote a file of ``emit_from_onnx``, for its manifest."""
