"""Stores the large weights of a float TFLite file in fewer bits, and reads back that nothing else changed.

ai-edge-quantizer does it. It passes over in silence what a rule does not fit, so what it wrote is compared with
what was asked: see ``check_only_weights_became``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import SMALL_WEIGHT
from mobile_matting_export.formats.silence import held_output
from mobile_matting_export.formats.tflite.match_operators import match_operators
from mobile_matting_export.formats.tflite.read_file import Operator, Subgraph, TfliteFile, read_file
from mobile_matting_export.formats.tflite.take_bytes import drop_unused_codes
from mobile_matting_export.formats.tflite.write_file import parse_whole, write_file

WEIGHT_INPUT = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1, "FULLY_CONNECTED": 1}
"""Operators that carry a large constant -> which of their inputs it is."""

PRECISION_OF = {"FLOAT16": "fp16", "INT8": "w8"}
"""Type of a stored weight -> our name of the precision."""

# of DEQUANTIZE: the first that knows the type, for integers with a scale per channel (op_version.cc of TensorFlow)
_VERSION = {"FLOAT16": 3, "INT8": 5}


def narrow_weights(
    source: Path,
    target: Path,
    dtype: str,
    quantize: Callable[[Path], bytes],
    check: Callable[[Path, Path], None] | None = None,
) -> None:
    """Write ``target``: the float32 file ``source``, its large weights stored as ``dtype`` behind a DEQUANTIZE each.

    Small weights (``SMALL_WEIGHT``), biases and other constants stay float32, as do inputs, outputs and
    everything in between. ``target`` appears whole or not at all.

    Args:
        source: the fp32 file.
        target: the file to write, in another folder or under another name.
        dtype: a key of ``PRECISION_OF``.
        quantize: makes the narrowed file's content of ``source``, in whatever packing.
        check: raises ``ConversionError`` where the second file is not what it should be of the first.

    Raises:
        ConversionError: ``quantize`` or ``check`` fails, or what was written differs in more than the weights.
    """
    with held_output() as held:
        try:
            content = quantize(source)
        except (OSError, MemoryError):
            raise  # the machine's, not the quantizer's
        except Exception as error:  # the quantizer raises whatever its parts raise
            failure = ConversionError(
                f"ai-edge-quantizer cannot store the weights of {source.name} as {PRECISION_OF[dtype]}: "
                f"{type(error).__name__}: {error}; convert to fp32 instead"
            )
            failure.add_note(f"what the quantizer printed:\n{held()[-2000:]}")
            raise failure from error
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        model = parse_whole(partial)
        _state_version(model, dtype)
        write_file(model, partial)
        check_only_weights_became(dtype, read_file(source), read_file(partial))
        if check is not None:
            check(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def scopes_of_small_weights(file: TfliteFile) -> str | None:
    """A regular expression of ai-edge-quantizer for the operators whose weights stay float32; None without any."""
    return match_operators(
        (subgraph, operator)
        for subgraph in file.subgraphs
        for operator in subgraph.operators
        if operator.kind in WEIGHT_INPUT and _is_small(subgraph, operator.inputs[WEIGHT_INPUT[operator.kind]])
    )


def float_weights(subgraph: Subgraph) -> set[int]:
    """Indices of the float32 constants that weighted operators read directly."""
    found = {
        operator.inputs[WEIGHT_INPUT[operator.kind]] for operator in subgraph.operators if operator.kind in WEIGHT_INPUT
    }
    tensors = subgraph.tensors
    return {index for index in found if tensors[index].constant and tensors[index].dtype == "FLOAT32"}


def name_reader(subgraph: Subgraph, index: int) -> str:
    """Name of the first result that is computed from a constant, as ``net.conv@1``: constants have numbers only."""
    readers = (operator for operator in subgraph.operators if index in operator.inputs)
    return next((subgraph.tensors[reader.outputs[0]].name for reader in readers), subgraph.tensors[index].name)


def check_only_weights_became(dtype: str, full: TfliteFile, narrowed: TfliteFile) -> None:
    """Compare what the quantizer wrote with what was asked of it.

    Raises:
        ConversionError: a large weight is still float32 or a small one is not, an operator other than
            DEQUANTIZE was added or lost, a tensor between operators changed its type, or the signatures differ.
    """
    faults = []
    if full.signatures != narrowed.signatures:
        faults.append("signatures differ")
    for before, after in zip(full.subgraphs, narrowed.subgraphs, strict=True):
        faults += _faults(dtype, before, after)
    if faults:
        raise ConversionError(
            f"ai-edge-quantizer wrote another file than asked for: {'; '.join(faults[:3])}; convert to fp32 instead"
        )


def _state_version(model: Any, dtype: str) -> None:
    """Let each DEQUANTIZE of ``dtype`` say what it needs.

    ai-edge-quantizer says version 1, which knows uint8 alone: an old runtime would take it, and compute garbage.
    """
    from ai_edge_litert import schema_py_generated as schema

    kind, stored = schema.BuiltinOperator.DEQUANTIZE, getattr(schema.TensorType, dtype)
    stated = schema.OperatorCodeT()
    stated.builtinCode, stated.deprecatedBuiltinCode, stated.version = kind, kind, _VERSION[dtype]
    model.operatorCodes.append(stated)
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            widens = max(code.builtinCode, code.deprecatedBuiltinCode) == kind
            if widens and graph.tensors[operator.inputs[0]].type == stored:
                operator.opcodeIndex = len(model.operatorCodes) - 1
    drop_unused_codes(model)


def _is_small(subgraph: Subgraph, index: int) -> bool:
    return math.prod(subgraph.tensors[index].shape) <= SMALL_WEIGHT


def _widens_a_weight(subgraph: Subgraph, operator: Operator) -> bool:
    return operator.kind == "DEQUANTIZE" and subgraph.tensors[operator.inputs[0]].constant


def _faults(dtype: str, before: Subgraph, after: Subgraph) -> list[str]:
    large = [index for index in sorted(float_weights(after)) if not _is_small(after, index)]
    faults = [f"the weight of {name_reader(after, index)} is still float32" for index in large]
    kinds_before = [operator.kind for operator in before.operators]
    kinds_after = [operator.kind for operator in after.operators if not _widens_a_weight(after, operator)]
    if kinds_before != kinds_after:
        changed = (Counter(kinds_before) - Counter(kinds_after)) + (Counter(kinds_after) - Counter(kinds_before))
        faults.append(f"operators changed: {', '.join(changed) or 'their order'}")
    # the quantizer appends its tensors, so the old ones keep their places
    for index, (old, new) in enumerate(zip(before.tensors, after.tensors, strict=False)):
        narrowed = old.constant and old.dtype == "FLOAT32" and new.dtype == dtype
        if narrowed and _is_small(before, index):
            faults.append(f"the small weight of {name_reader(before, index)} was rounded")
        if new.dtype != old.dtype and not narrowed:
            faults.append(f"{old.name} became {new.dtype}")
        if new.shape != old.shape:
            faults.append(f"{old.name} changed its shape")
    return faults
