"""Makes the uint8 image of a TFLite file a quantized tensor of scale 1, which every backend converts itself.

litert-torch writes a CAST from uint8 to float behind the input. XNNPACK has no CAST, and TensorFlow's GPU delegate
takes none from uint8; both take a DEQUANTIZE, and with scale 1 and zero point 0 it gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.tflite.read_file import parse, read_file


def take_bytes(path: Path, names: Sequence[str]) -> None:
    """Turn the CAST behind each of the inputs ``names`` into a DEQUANTIZE, in place; nothing else changes.

    Raises:
        ConversionError: an input is no uint8 tensor whose every reader is a CAST to float32.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    file = read_file(path)
    inputs = file.signatures[0].inputs
    model = parse(path)
    code = _operator_code(schema, model)
    graph = model.subgraphs[0]
    for name in names:
        index = inputs[name]
        readers = [number for number, operator in enumerate(file.main.operators) if index in operator.inputs]
        kinds = {file.main.operators[number].kind for number in readers}
        results = {file.main.tensors[file.main.operators[number].outputs[0]].dtype for number in readers}
        if file.main.tensors[index].dtype != "UINT8" or kinds != {"CAST"} or results != {"FLOAT32"}:
            raise ConversionError(
                f"litert-torch wrote {', '.join(sorted(kinds)) or 'nothing'} behind the input {name} where a CAST from "
                "uint8 to float32 was expected; use --input pixels"
            )
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [1.0], [0]
        graph.tensors[index].quantization = quantization
        for number in readers:
            operator = graph.operators[number]
            operator.opcodeIndex = code
            operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
            operator.builtinOptions = schema.DequantizeOptionsT()
    drop_unused_codes(model)
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))


def _operator_code(schema: Any, model: Any) -> int:
    """Index of DEQUANTIZE among the model's operator codes; version 2 knows uint8, as versions 1 and 3 do."""
    wanted = schema.BuiltinOperator.DEQUANTIZE
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            return index
    added = schema.OperatorCodeT()
    added.builtinCode, added.deprecatedBuiltinCode, added.version = wanted, wanted, 1
    model.operatorCodes.append(added)
    return len(model.operatorCodes) - 1


def drop_unused_codes(model: Any) -> None:
    """Drop from the schema's object ``model`` the operator codes that no operator has, and number the others anew."""
    used = sorted({operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators})
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    for graph in model.subgraphs:
        for operator in graph.operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)
