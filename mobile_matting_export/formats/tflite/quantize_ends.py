"""Gives an int8 TFLite file an image and an alpha of 8 bits, in place of the float32 ones.

The image takes over the scale that the file rounds it with: int8 goes straight in, uint8 through a QUANTIZE that adds
128. Alpha is stored in steps of 1/255, so that 0 and 1 are exact and a uint8 alpha is the mask as pictures have it;
ai-edge-quantizer would choose 1/256, which has no 1, and writes no uint8. States stay float32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.tflite.read_file import parse, read_file
from mobile_matting_export.formats.tflite.take_bytes import drop_unused_codes
from mobile_matting_export.formats.tflite.write_file import write_file
from mobile_matting_export.quantization.io_kind import IoKind
from mobile_matting_export.quantization.ranges import Range

ALPHA_SCALE = 1 / 255
"""Of a stored alpha, whose lowest number is 0."""

_LOWEST = {"int8": -128, "uint8": 0}
# of a range, for pictures without any light
_NARROWEST = 1e-6


def quantize_ends(path: Path, kind: IoKind, ranges: Mapping[str, Range]) -> None:
    """Make the input ``image`` and the output ``alpha`` tensors of ``kind``, in place, under their names.

    An image of pixels as bytes stays as it is.

    Args:
        path: an int8 file of ours, its ends float32, the image perhaps uint8.
        kind: ``float`` leaves the file as it is.
        ranges: that of the image by the tensor's name among them, for a file that does not round it itself.

    Raises:
        ConversionError: bytes are taken where the ends are to be int8.
    """
    if kind == "float":
        return
    signature = read_file(path).signatures[0]
    model = _Model(parse(path), kind)
    model.store_alpha(signature.outputs["alpha"])
    model.take_image(signature.inputs["image"], ranges)
    drop_unused_codes(model.model)
    write_file(model.model, path)


class _Model:
    """The schema's object while its ends change."""

    def __init__(self, model: Any, kind: IoKind) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.model, self.kind, self.schema = model, kind, schema
        self.graph = model.subgraphs[0]
        self.type = schema.TensorType.INT8 if kind == "int8" else schema.TensorType.UINT8

    def store_alpha(self, index: int) -> None:
        twin = self._add_twin(index)
        for operator in self.graph.operators:
            operator.inputs = np.where(operator.inputs == index, twin, operator.inputs)
            operator.outputs = np.where(operator.outputs == index, twin, operator.outputs)
        self._store(index, ALPHA_SCALE, _LOWEST[self.kind])
        self.graph.operators.append(self._operator("Quantize", 1, twin, index))

    def take_image(self, index: int, ranges: Mapping[str, Range]) -> None:
        if self.graph.tensors[index].type == self.schema.TensorType.UINT8:
            if self.kind != "uint8":
                raise ConversionError("the image is taken as bytes, which int8 cannot hold; use --io uint8")
            return
        readers = [operator for operator in self.graph.operators if index in operator.inputs]
        rounding = [operator for operator in readers if self._is_quantize(operator)]
        if rounding:
            scale, zero_point = self._stored(rounding[0].outputs[0])
        else:
            scale, zero_point = _affine(ranges[bytes(self.graph.tensors[index].name).decode()])
        exact = [operator for operator in rounding if self._stored(operator.outputs[0]) == (scale, zero_point)]
        if len(rounding) < len(readers):
            twin = self._add_twin(index)
            for operator in readers:
                if operator not in rounding:
                    operator.inputs = np.where(operator.inputs == index, twin, operator.inputs)
            # version 1 of DEQUANTIZE knows uint8 alone
            self.graph.operators.insert(0, self._operator("Dequantize", 2 if self.kind == "int8" else 1, index, twin))
        self._store(index, scale, zero_point + 128 + _LOWEST[self.kind])
        if self.kind == "int8":
            self._join(exact, index)

    def _join(self, quantizes: Sequence[Any], index: int) -> None:
        """Drop QUANTIZEs that have nothing to do: who read their results reads the tensor ``index``."""
        results = [int(operator.outputs[0]) for operator in quantizes]
        self.graph.operators = [operator for operator in self.graph.operators if operator not in quantizes]
        for operator in self.graph.operators:
            operator.inputs = np.where(np.isin(operator.inputs, results), index, operator.inputs)
        self._drop_tensors(results)

    def _drop_tensors(self, dropped: Sequence[int]) -> None:
        """Take out tensors that nothing reads or writes, and number the others anew."""
        tensors = self.graph.tensors
        kept = [number for number in range(len(tensors)) if number not in dropped]
        self.graph.tensors = [tensors[number] for number in kept]
        place = np.full(len(tensors) + 1, -1, np.int32)  # the last for -1, an input that is not there
        place[kept] = np.arange(len(kept))
        for holder in (self.graph, *self.graph.operators):
            holder.inputs, holder.outputs = place[holder.inputs], place[holder.outputs]
        for signature in self.model.signatureDefs:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = int(place[entry.tensorIndex])

    def _add_twin(self, index: int) -> int:
        """A float32 tensor as the tensor ``index`` is, which nothing reads yet."""
        twin = copy.copy(self.graph.tensors[index])
        twin.name = bytes(twin.name) + b"_float"
        self.graph.tensors.append(twin)
        return len(self.graph.tensors) - 1

    def _store(self, index: int, scale: float, zero_point: int) -> None:
        tensor = self.graph.tensors[index]
        tensor.type = self.type
        tensor.quantization = self.schema.QuantizationParametersT()
        tensor.quantization.scale = np.array([scale], np.float32)
        tensor.quantization.zeroPoint = np.array([zero_point], np.int64)

    def _stored(self, index: int) -> tuple[float, int]:
        quantization = self.graph.tensors[index].quantization
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def _is_quantize(self, operator: Any) -> bool:
        code = self.model.operatorCodes[operator.opcodeIndex]
        wanted = self.schema.BuiltinOperator.QUANTIZE
        return bool(max(code.builtinCode, code.deprecatedBuiltinCode) == wanted)

    def _operator(self, name: str, version: int, source: int, target: int) -> Any:
        """QUANTIZE or DEQUANTIZE from one tensor to another."""
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self.schema.BuiltinOperator, name.upper())
        code.version = version
        self.model.operatorCodes.append(code)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = np.array([source], np.int32), np.array([target], np.int32)
        operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{name}Options")
        operator.builtinOptions = getattr(self.schema, f"{name}OptionsT")()
        return operator


def _affine(values: Range) -> tuple[float, int]:
    """Scale and zero point of int8 over a range, as ai-edge-quantizer has them."""
    scale = max(values.high - values.low, _NARROWEST) / 255
    return scale, int(np.clip(np.rint(-128 - values.low / scale), -128, 127))
