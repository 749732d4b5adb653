"""Stores the weights of a float TFLite file as 8 bit integers; the arithmetic stays float32 (precision ``w8``).

Each output channel of a weight has its own scale, symmetric around 0: ``weight = scale * integer`` with integers
from -127 to 127. A DEQUANTIZE stands in front of each weight; XNNPACK computes it once, when the file is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.tflite.narrow_weights import name_reader, narrow_weights, scopes_of_small_weights
from mobile_matting_export.formats.tflite.read_file import parse, read_file

# of a step: float32 division and product round, too
_ROUNDING = 1e-3


def weights_only(files: tuple[Path, ...], folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``folder/stem.tflite``: the fp32 file, which lies elsewhere, with its large weights as 8 bit integers.

    Same file, same bytes.

    Raises:
        ConversionError: ai-edge-quantizer fails, the file it wrote differs in more than the large weights, or a
            stored weight is off by more than half a step of its scale.
    """
    target = folder / f"{stem}.tflite"
    narrow_weights(files[0], target, "INT8", _to_integers, check_weights_are_near)
    return (target,)


def _to_integers(source: Path) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    work = quantizer.Quantizer(str(source))
    work.load_quantization_recipe(recipe.weight_only_wi8_afp32())
    kept = scopes_of_small_weights(read_file(source))
    if kept is not None:
        work.update_quantization_recipe(
            kept, qtyping.TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    return bytes(work.quantize().quantized_model)


def check_weights_are_near(full: Path, narrowed: Path) -> None:
    """Hold the integers of ``narrowed``, times their scales, against the weights of ``full``.

    Raises:
        ConversionError: a weight has not one scale for each output channel, its zero is not 0, or it is off by
            more than half a step, as one that is not finite.
    """
    before, after = parse(full), parse(narrowed)
    for number, graph in enumerate(after.subgraphs):
        # the quantizer appends its tensors, so the old ones keep their places
        for index, old in enumerate(before.subgraphs[number].tensors):
            new = graph.tensors[index]
            if new.type != old.type:
                fault = _fault(_numbers(before, old, np.float32), _numbers(after, new, np.int8), new.quantization)
                if fault:
                    reader = name_reader(read_file(full).subgraphs[number], index)
                    raise ConversionError(f"the weight of {reader} as 8 bit integers {fault}; convert to fp32 instead")


def _numbers(model: Any, tensor: Any, dtype: type[np.generic]) -> np.ndarray:
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype).reshape(tensor.shape)


def _fault(weight: np.ndarray, integers: np.ndarray, quantization: Any) -> str:
    scale = np.asarray(quantization.scale, np.float32)
    channels = weight.shape[quantization.quantizedDimension]
    if len(scale) != channels:
        return f"has {len(scale)} scales for {channels} channels"
    if np.any(quantization.zeroPoint):
        return "has a zero that is not 0"
    shape = [1] * weight.ndim
    shape[quantization.quantizedDimension] = channels
    step = scale.reshape(shape)
    worst = float((np.abs(integers * step - weight) / step).max(initial=0.0))
    return "" if worst <= 0.5 + _ROUNDING else f"is off by {worst:.3g} steps of its scale"
