"""The way in which ncnn computes in 8 bits: convolutions and inner products, with fixed scales."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobile_matting_export.formats.format import Int8
from mobile_matting_export.formats.ncnn.correct_biases import correct_biases
from mobile_matting_export.formats.ncnn.list_int8_layers import list_int8_layers, list_slower_layers
from mobile_matting_export.formats.ncnn.name_modules import name_modules
from mobile_matting_export.formats.ncnn.observe_blobs import observe
from mobile_matting_export.formats.ncnn.quantize_int8 import quantize
from mobile_matting_export.quantization.choose_range import choose_threshold
from mobile_matting_export.quantization.layer import QuantizableLayer

if TYPE_CHECKING:
    from torch import fx


def _list_layers(files: tuple[Path, ...], graph: fx.GraphModule) -> tuple[QuantizableLayer, ...]:
    return list_int8_layers(files, name_modules(files, graph))


WAYS = (
    Int8(
        "static",
        _list_layers,
        list_slower_layers,
        observe,
        choose_threshold,
        quantize,
        "convolutions",
        correct_biases=correct_biases,
    ),
)
