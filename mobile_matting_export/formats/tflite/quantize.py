"""Stores the weights of a float TFLite file as half floats, and reads back that only they changed."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import SMALL_WEIGHT
from mobile_matting_export.formats.silence import held_output
from mobile_matting_export.formats.tflite.read_file import Operator, Subgraph, TfliteFile, parse, read_file

WEIGHT_INPUT = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1, "FULLY_CONNECTED": 1}
"""Operators that carry a large constant -> which of their inputs it is."""

HALF_MAX = float(np.finfo(np.float16).max)


def cast_weights_to_half(source: Path, target: Path) -> None:
    """Write ``target``: the float32 file ``source`` with its large weights rounded to float16.

    A DEQUANTIZE stands in front of each weight, so a CPU computes in float32 with the rounded weights
    and a GPU delegate takes the halves as they are. Small weights (``SMALL_WEIGHT``), biases and other
    constants stay float32, as do inputs, outputs and everything in between. ``target`` appears whole or not at all.

    Raises:
        ConversionError: a weight exceeds the half-float range, ai-edge-quantizer fails, or the file
            it wrote differs in more than the weights.
    """
    _check_range(source)
    with held_output() as held:
        try:
            content = _float_casting(source)
        except Exception as error:  # the quantizer raises whatever its parts raise
            failure = ConversionError(
                f"ai-edge-quantizer cannot store the weights of {source.name} as fp16: "
                f"{type(error).__name__}: {error}; convert to fp32 instead"
            )
            failure.add_note(f"what the quantizer printed:\n{held()[-2000:]}")
            raise failure from error
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        check_only_weights_are_half(read_file(source), read_file(partial))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


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
    kept = _operators_with_small_weights(read_file(source))
    if kept:
        scopes = "|".join(re.escape("".join(f"{name};" for name in names)) for names in kept)
        work.update_quantization_recipe(
            f"^(?:{scopes})$", qtyping.TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    return bytes(work.quantize().quantized_model)


def _operators_with_small_weights(file: TfliteFile) -> list[tuple[str, ...]]:
    """Names of the output tensors, by which the quantizer knows an operator, of those to leave alone."""
    return [
        tuple(subgraph.tensors[index].name for index in operator.outputs)
        for subgraph in file.subgraphs
        for operator in subgraph.operators
        if operator.kind in WEIGHT_INPUT and _is_small(subgraph, operator.inputs[WEIGHT_INPUT[operator.kind]])
    ]


def _is_small(subgraph: Subgraph, index: int) -> bool:
    return math.prod(subgraph.tensors[index].shape) <= SMALL_WEIGHT


def _check_range(source: Path) -> None:
    """Refuse weights that become infinite as half floats (above 65504)."""
    model = parse(source)
    for subgraph, graph in zip(read_file(source).subgraphs, model.subgraphs, strict=True):
        for index in _weights(subgraph):
            values = np.frombuffer(bytes(model.buffers[graph.tensors[index].buffer].data), np.float32)
            largest = float(np.abs(values).max(initial=0.0))
            if not largest <= HALF_MAX:
                raise ConversionError(
                    f"weight {subgraph.tensors[index].name} reaches {largest:g}, beyond fp16's 65504; "
                    "convert to fp32, or check the checkpoint"
                )


def _weights(subgraph: Subgraph) -> set[int]:
    """Indices of the float32 constants that weighted operators read directly."""
    found = {
        operator.inputs[WEIGHT_INPUT[operator.kind]] for operator in subgraph.operators if operator.kind in WEIGHT_INPUT
    }
    tensors = subgraph.tensors
    return {index for index in found if tensors[index].constant and tensors[index].dtype == "FLOAT32"}


def check_only_weights_are_half(full: TfliteFile, half: TfliteFile) -> None:
    """Compare what the quantizer wrote with what was asked of it.

    Raises:
        ConversionError: a large weight is still float32 or a small one is not, an operator other than
            DEQUANTIZE was added or lost, a tensor between operators changed its type, or the signatures differ.
    """
    faults = []
    if full.signatures != half.signatures:
        faults.append("signatures differ")
    for before, after in zip(full.subgraphs, half.subgraphs, strict=True):
        faults += _faults(before, after)
    if faults:
        raise ConversionError(
            f"ai-edge-quantizer wrote another file than asked for: {'; '.join(faults[:3])}; convert to fp32 instead"
        )


def _widens_a_weight(subgraph: Subgraph, operator: Operator) -> bool:
    return operator.kind == "DEQUANTIZE" and subgraph.tensors[operator.inputs[0]].constant


def _faults(before: Subgraph, after: Subgraph) -> list[str]:
    large = [index for index in sorted(_weights(after)) if not _is_small(after, index)]
    faults = [f"weight {after.tensors[index].name} is still float32" for index in large]
    kinds_before = [operator.kind for operator in before.operators]
    kinds_after = [operator.kind for operator in after.operators if not _widens_a_weight(after, operator)]
    if kinds_before != kinds_after:
        changed = (Counter(kinds_before) - Counter(kinds_after)) + (Counter(kinds_after) - Counter(kinds_before))
        faults.append(f"operators changed: {', '.join(changed) or 'their order'}")
    # the quantizer appends its tensors, so the old ones keep their places
    for old, new in zip(before.tensors, after.tensors, strict=False):
        half_weight = old.constant and old.dtype == "FLOAT32" and new.dtype == "FLOAT16"
        if half_weight and math.prod(old.shape) <= SMALL_WEIGHT:
            faults.append(f"small weight {old.name} was rounded")
        if new.dtype != old.dtype and not half_weight:
            faults.append(f"{old.name} became {new.dtype}")
        if new.shape != old.shape:
            faults.append(f"{old.name} changed its shape")
    return faults
