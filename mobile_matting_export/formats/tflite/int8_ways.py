"""The ways in which TFLite computes in 8 bits, the usual one first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mobile_matting_export.formats.format import Int8
from mobile_matting_export.formats.tflite.list_int8_layers import list_int8_layers, list_tail
from mobile_matting_export.formats.tflite.quantize_dynamic import (
    list_dynamic_layers,
    list_slower_layers,
    quantize_dynamic,
)
from mobile_matting_export.formats.tflite.quantize_ends import quantize_ends
from mobile_matting_export.formats.tflite.quantize_int8 import observe, quantize
from mobile_matting_export.quantization.choose_range import choose_range
from mobile_matting_export.quantization.io_kind import IoKind
from mobile_matting_export.quantization.layer import QuantizableLayer
from mobile_matting_export.quantization.ranges import Range

if TYPE_CHECKING:
    from torch import fx

_Files = tuple[Path, ...]
_Ranges = Mapping[str, Range]
_Shift = Mapping[str, np.ndarray]


# names of tensors tell the modules: the graph is not needed
def _list_static(files: _Files, _: fx.GraphModule) -> tuple[QuantizableLayer, ...]:
    return list_int8_layers(files)


def _list_dynamic(files: _Files, _: fx.GraphModule) -> tuple[QuantizableLayer, ...]:
    return list_dynamic_layers(files)


def _quantize_static(
    files: _Files, ranges: _Ranges, floats: frozenset[str], folder: Path, stem: str, _: _Shift
) -> _Files:
    return quantize(files, ranges, floats, folder, stem)


def _quantize_dynamic(files: _Files, _: _Ranges, floats: frozenset[str], folder: Path, stem: str, __: _Shift) -> _Files:
    return quantize_dynamic(files, floats, folder, stem)


def _observe_nothing(_: _Files, __: Sequence[Mapping[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    return iter(())  # ranges are found at run time


def _quantize_ends(files: _Files, ranges: _Ranges, io: IoKind) -> None:
    quantize_ends(files[0], io, ranges)


WAYS = (
    Int8(
        "static",
        _list_static,
        list_tail,
        observe,
        choose_range,
        _quantize_static,
        "operations",
        quantize_ends=_quantize_ends,
    ),
    Int8("dynamic", _list_dynamic, list_slower_layers, _observe_nothing, choose_range, _quantize_dynamic, "dynamic"),
)
