"""Small TFLite files made operation by operation, and what the real runtime makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCALE = 0.05


_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
    "POW": "PowOptions",
    "GREATER": "GreaterOptions",
    "CAST": "CastOptions",
    "SELECT_V2": "SelectV2Options",
    "EXP": "ExpOptions",
    "ABS": "AbsOptions",
    "NEG": "NegOptions",
    "COS": "CosOptions",
    "SQUARE": "SquareOptions",
    "GELU": "GeluOptions",
    "HARD_SWISH": "HardSwishOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "SLICE": "SliceOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions",
    "EXPAND_DIMS": "ExpandDimsOptions",
    "SQUEEZE": "SqueezeOptions",
    "PACK": "PackOptions",
    "UNPACK": "UnpackOptions",
    "TILE": "TileOptions",
    "GATHER": "GatherOptions",
    "GATHER_ND": "GatherNdOptions",
    "ARG_MAX": "ArgMaxOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "CUMSUM": "CumsumOptions",
    "SOFTMAX": "SoftmaxOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "MIRROR_PAD": "MirrorPadOptions",
    "QUANTIZE": "QuantizeOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "LOG_SOFTMAX": "LogSoftmaxOptions",
}
_NUMPY = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


def write_file(path: Path, tensors: dict[str, Any], ops: Sequence[Any]) -> Path:
    """A TFLite file; what nothing writes is an input, what nothing reads an output.

    A tensor is (shape, dtype, data or None, scales or None): stored with data; 8 bit ones get one scale.
    An operation is (type, names read ("" absent), names written, options, version).
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = schema.ModelT()
    model.version = 3
    model.description = b"small"
    model.buffers = [schema.BufferT()]
    model.operatorCodes = []
    graph = schema.SubGraphT()
    graph.name = b"main"
    graph.tensors, graph.operators = [], []
    numbers = {name: number for number, name in enumerate(tensors)}
    for name, (shape, dtype, data, given) in tensors.items():
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = list(shape)
        tensor.type = getattr(schema.TensorType, dtype)
        tensor.buffer = 0
        scales = given if given is not None else ((SCALE,) if dtype in ("INT8", "UINT8") else ())
        if scales:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = list(scales)
            tensor.quantization.zeroPoint = [0] * len(scales)
        if data is not None:
            buffer = schema.BufferT()
            values = np.broadcast_to(np.asarray(data, _NUMPY[dtype]), shape)
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    for kind, reads, writes, options, version in ops:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = version
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs = [numbers.get(name, -1) for name in reads]
        operator.outputs = [numbers[name] for name in writes]
        if kind in _OPTIONS:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[kind])
            operator.builtinOptions = getattr(schema, _OPTIONS[kind] + "T")()
            for key, value in options.items():
                assert hasattr(operator.builtinOptions, key), key
                setattr(operator.builtinOptions, key, value)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    read = {name for _, reads, *_ in ops for name in reads}
    written = {name for _, _, writes, *_ in ops for name in writes}
    graph.inputs = [numbers[n] for n, (_, _, data, _) in tensors.items() if data is None and n in read - written]
    graph.outputs = [numbers[n] for n in tensors if n in written - read]
    model.subgraphs = [graph]
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


@pytest.fixture
def small_file(tmp_path: Path) -> Callable[[dict[str, Any], Sequence[Any]], Path]:
    """Writes ``small.tflite`` in the test's folder."""
    return lambda tensors, ops: write_file(tmp_path / "small.tflite", tensors, ops)


def parts_of_runtime(path: Path) -> list[set[int]]:
    """For each part that XNNPACK really takes in this runtime, the tensors that it hands on."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    ops = interpreter._get_ops_details()
    return [set(map(int, op["outputs"])) for op in ops if op["op_name"] == "DELEGATE"]


@pytest.fixture(scope="session")
def runtime_parts() -> Callable[[Path], list[set[int]]]:
    """What the interpreter in the environment does with a file."""
    return parts_of_runtime
