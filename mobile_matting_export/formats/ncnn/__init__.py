"""The ncnn format: ``NCNN`` writes, opens and counts ``.ncnn.param`` + ``.ncnn.bin``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_matting_export.formats.format import ExportGraph, Format, Int8, Session

if TYPE_CHECKING:  # a process that only runs a file needs no torch
    import numpy as np
    from torch import fx

    from mobile_matting_export.quantization.histogram import Histogram
    from mobile_matting_export.quantization.layer import QuantizableLayer
    from mobile_matting_export.quantization.ranges import Method, Range


def _emit(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    # lowering needs torch, which the child process that runs a file on the GPU does without
    from mobile_matting_export.formats.ncnn.lower import emit

    return emit(graph, precision, folder, stem)


def _open(files: tuple[Path, ...], accelerator: str) -> Session:
    from mobile_matting_export.formats.ncnn.run import open_session

    return open_session(files, accelerator)


def _count_ops(files: tuple[Path, ...]) -> dict[str, int]:
    from mobile_matting_export.formats.ncnn.run import count_ops

    return count_ops(files)


def _list_layers(files: tuple[Path, ...], graph: fx.GraphModule) -> tuple[QuantizableLayer, ...]:
    from mobile_matting_export.formats.ncnn.list_int8_layers import list_int8_layers
    from mobile_matting_export.formats.ncnn.name_modules import name_modules

    return list_int8_layers(files, name_modules(files, graph))


def _always_float(files: tuple[Path, ...]) -> frozenset[str]:
    from mobile_matting_export.formats.ncnn.list_int8_layers import list_slower_layers

    return list_slower_layers(files)


def _observe(files: tuple[Path, ...], frames: Sequence[Mapping[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    from mobile_matting_export.formats.ncnn.observe_blobs import observe

    return observe(files, frames)


def _choose(histogram: Histogram, method: Method) -> Range:
    from mobile_matting_export.quantization.choose_range import choose_threshold

    return choose_threshold(histogram, method)


def _quantize(
    files: tuple[Path, ...],
    ranges: Mapping[str, Range],
    keep_float: frozenset[str],
    folder: Path,
    stem: str,
    bias_shift: Mapping[str, np.ndarray],
) -> tuple[Path, ...]:
    from mobile_matting_export.formats.ncnn.quantize_int8 import quantize

    return quantize(files, ranges, keep_float, folder, stem, bias_shift)


def _correct_biases(
    files: tuple[Path, ...], ranges: Mapping[str, Range], frames: Sequence[Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    from mobile_matting_export.formats.ncnn.correct_biases import correct_biases

    return correct_biases(files, ranges, frames)


def _weights_only(files: tuple[Path, ...], folder: Path, stem: str) -> tuple[Path, ...]:
    from mobile_matting_export.formats.ncnn.write_codebook import weights_only

    return weights_only(files, folder, stem)


NCNN = Format(
    name="ncnn",
    layout="NCHW",
    tools=("torch", "pnnx", "ncnn"),
    emit=_emit,
    open=_open,
    count_ops=_count_ops,
    input_refusals={
        "uint8": "ncnn takes floats only; --input pixels takes what ncnn::Mat::from_pixels makes of an RGB picture"
    },
    int8=(Int8("static", _list_layers, _always_float, _observe, _choose, _quantize, "convolutions", _correct_biases),),
    weights_only=_weights_only,
)
