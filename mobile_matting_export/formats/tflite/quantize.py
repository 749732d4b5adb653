"""Stores the weights of a float TFLite file as half floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.tflite.narrow_weights import (
    float_weights,
    name_reader,
    narrow_weights,
    scopes_of_small_weights,
)
from mobile_matting_export.formats.tflite.read_file import parse, read_file

HALF_MAX = float(np.finfo(np.float16).max)


def cast_weights_to_half(source: Path, target: Path) -> None:
    """Write ``target``: the float32 file ``source`` with its large weights rounded to float16.

    A DEQUANTIZE stands in front of each weight, so a CPU computes in float32 with the rounded weights
    and a GPU delegate takes the halves as they are. All else stays as it was: see ``narrow_weights``.

    Raises:
        ConversionError: a weight exceeds the half-float range, ai-edge-quantizer fails, or the file
            it wrote differs in more than the weights.
    """
    _check_range(source)
    narrow_weights(source, target, "FLOAT16", _float_casting)


def _float_casting(source: Path) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    half = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    work = quantizer.Quantizer(str(source))
    work.update_quantization_recipe(
        ".*", qtyping.TFLOperationName.ALL_SUPPORTED, half, algorithm_key=AlgorithmName.FLOAT_CASTING
    )
    kept = scopes_of_small_weights(read_file(source))
    if kept is not None:
        work.update_quantization_recipe(
            kept, qtyping.TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    return bytes(work.quantize().quantized_model)


def _check_range(source: Path) -> None:
    """Refuse weights that become infinite as half floats (above 65504)."""
    model = parse(source)
    for subgraph, graph in zip(read_file(source).subgraphs, model.subgraphs, strict=True):
        for index in float_weights(subgraph):
            values = np.frombuffer(bytes(model.buffers[graph.tensors[index].buffer].data), np.float32)
            largest = float(np.abs(values).max(initial=0.0))
            if not largest <= HALF_MAX:
                raise ConversionError(
                    f"the weight of {name_reader(subgraph, index)} reaches {largest:g}, beyond fp16's 65504; "
                    "convert to fp32, or check the checkpoint"
                )
