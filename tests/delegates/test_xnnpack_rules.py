"""XNNPACK's rules against XNNPACK itself: files of one operation, loaded into the runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_matting_export.delegates.judge_graph import judge_graph
from mobile_matting_export.formats.tflite.read_graph import read_graph
from mobile_matting_export.inspection import BackendReport, Graph

S = (1, 8, 8, 4)
WINDOW = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}
FLOAT_KINDS = "ABS EXP FLOOR LOG NEG RSQRT SQRT SQUARE COS SIN CEIL ROUND GELU HARD_SWISH RELU RELU6 RELU_N1_TO_1"
KINDS_OF_8_BIT = "LOGISTIC TANH ELU LEAKY_RELU"


def t(shape: tuple[int, ...], dtype: str = "FLOAT32", data: Any = None, scales: Any = None) -> tuple[Any, ...]:
    return shape, dtype, data, scales


def o(kind: str, reads: list[str], writes: list[str], version: int = 1, **options: Any) -> tuple[Any, ...]:
    return kind, reads, writes, options, version


def i32(*values: int, shape: tuple[int, ...] | None = None) -> tuple[Any, ...]:
    return t(shape or (len(values),), "INT32", np.reshape(values, shape or (len(values),)))


def _elementwise(d: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    for kind in f"{FLOAT_KINDS} {KINDS_OF_8_BIT} RELU_0_TO_1 SIGN".split():
        options = {"alpha": 0.1} if kind == "LEAKY_RELU" else {}
        yield kind, {"x": t(S, d), "y": t(S, d)}, o(kind, ["x"], ["y"], **options)
    for kind in ["ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW"]:
        for name, other in (("", t(S, d)), (" stored", t((4,), d, 1)), (" row", t((8, 4), d))):
            yield kind + name, {"x": t(S, d), "z": other, "y": t(S, d)}, o(kind, ["x", "z"], ["y"])
    for kind in ("ADD", "MUL"):
        for number in range(1, 6):
            tensors = {"x": t(S, d), "z": t(S, d), "y": t(S, d)}
            yield f"{kind} activation {number}", tensors, o(kind, ["x", "z"], ["y"], fusedActivationFunction=number)
    if d == "INT8":
        for source, made in (("UINT8", d), (d, "UINT8"), (d, d), ("FLOAT32", d), ("FLOAT32", "UINT8")):
            yield f"QUANTIZE {source} {made}", {"x": t(S, source), "y": t(S, made)}, o("QUANTIZE", ["x"], ["y"])
        for kind, exponents in (("ADD", (-11, -10, 7, 8)), ("SUB", (-11, -10, 7, 8)), ("MUL", (-17, -16, 7, 8))):
            for exponent in exponents:
                tensors = {"x": t(S, d, None, (2.0**exponent,)), "z": t(S, d, None, (1.0,)), "y": t(S, d, None, (1.0,))}
                yield f"{kind} scale 2^{exponent}", tensors, o(kind, ["x", "z"], ["y"])


def _weighted(d: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    def bias(count: int) -> tuple[Any, ...]:
        return t((count,), d, 0) if d == "FLOAT32" else t((count,), "INT32", 0, (0.05**2,))

    steps = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 0}
    conv = {"x": t(S, d), "w": t((6, 3, 3, 4), d, 1), "b": bias(6), "y": t((1, 8, 8, 6), d)}
    yield "CONV_2D", conv, o("CONV_2D", ["x", "w", "b"], ["y"], **steps)
    yield "CONV_2D computed weights", conv | {"w": t((6, 3, 3, 4), d)}, o("CONV_2D", ["x", "w", "b"], ["y"], **steps)
    for number in range(1, 6):
        act = steps | {"fusedActivationFunction": number}
        yield f"CONV_2D activation {number}", conv, o("CONV_2D", ["x", "w", "b"], ["y"], **act)
    depth = conv | {"w": t((1, 3, 3, 4), d, 1), "b": bias(4), "y": t(S, d)}
    yield "DEPTHWISE", depth, o("DEPTHWISE_CONV_2D", ["x", "w", "b"], ["y"], **steps, depthMultiplier=1)
    bare = {name: tensor for name, tensor in depth.items() if name != "b"}
    yield "DEPTHWISE no bias", bare, o("DEPTHWISE_CONV_2D", ["x", "w"], ["y"], **steps, depthMultiplier=1)
    deconv = {
        "s": i32(1, 16, 16, 6),
        "w": t((6, 2, 2, 4), d, 1),
        "x": t(S, d),
        "b": bias(6),
        "y": t((1, 16, 16, 6), d),
    }
    twice = {"strideH": 2, "strideW": 2, "padding": 1}
    yield "TRANSPOSE_CONV", deconv, o("TRANSPOSE_CONV", ["s", "w", "x", "b"], ["y"], 3, **twice)
    relu = twice | {"fusedActivationFunction": 1}
    yield "TRANSPOSE_CONV relu", deconv, o("TRANSPOSE_CONV", ["s", "w", "x", "b"], ["y"], 4, **relu)
    linear = {"x": t((1, 32), d), "w": t((6, 32), d, 1), "b": bias(6), "y": t((1, 6), d)}
    yield "FULLY_CONNECTED", linear, o("FULLY_CONNECTED", ["x", "w", "b"], ["y"])
    computed = linear | {"w": t((6, 32), d)}
    yield "FULLY_CONNECTED computed weights", computed, o("FULLY_CONNECTED", ["x", "w", "b"], ["y"])
    product = {"x": t((1, 8, 4), d), "z": t((1, 4, 6), d), "y": t((1, 8, 6), d)}
    yield "BATCH_MATMUL", product, o("BATCH_MATMUL", ["x", "z"], ["y"])
    for name, slope in (("[4]", t((4,), d, 1)), ("[1,1,4]", t((1, 1, 4), d, 1)), ("computed", t((1, 1, 1, 4), d))):
        yield f"PRELU {name}", {"x": t(S, d), "a": slope, "y": t(S, d)}, o("PRELU", ["x", "a"], ["y"])


def _moving(d: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    for count in (1, 2, 5, 6):
        names = [f"x{i}" for i in range(count)]
        tensors = dict.fromkeys(names, t(S, d)) | {"y": t((1, 8, 8, 4 * count), d)}
        yield f"CONCATENATION {count}", tensors, o("CONCATENATION", names, ["y"], axis=3)
    for count in (2, 4, 8):
        names = [f"y{i}" for i in range(count)]
        tensors = {"a": t((), "INT32", 2), "x": t(S, d)} | dict.fromkeys(names, t((1, 8, 8 // count, 4), d))
        yield f"SPLIT {count}", tensors, o("SPLIT", ["a", "x"], names, numSplits=count)
    cut = {"x": t(S, d), "b": i32(0, 0, 0, 1), "s": i32(1, 8, 8, 2), "y": t((1, 8, 8, 2), d)}
    yield "SLICE", cut, o("SLICE", ["x", "b", "s"], ["y"])
    yield "SLICE to the end", cut | {"s": i32(1, -1, 8, 2)}, o("SLICE", ["x", "b", "s"], ["y"])
    strided = {"x": t(S, d), "b": i32(0, 0, 0, 0), "e": i32(1, 4, 8, 4), "s": i32(1, 1, 1, 1), "y": t((1, 4, 8, 4), d)}
    reads = ["x", "b", "e", "s"]
    yield "STRIDED_SLICE", strided, o("STRIDED_SLICE", reads, ["y"])
    skipping = strided | {"e": i32(1, 8, 8, 4), "s": i32(1, 2, 2, 1), "y": t((1, 4, 4, 4), d)}
    yield "STRIDED_SLICE step 2", skipping, o("STRIDED_SLICE", reads, ["y"])
    dropped = strided | {"e": i32(1, 8, 8, 1), "y": t((1, 8, 8), d)}
    yield "STRIDED_SLICE drops an axis", dropped, o("STRIDED_SLICE", reads, ["y"], shrinkAxisMask=8)
    for shape in ((1, 64, 1, 4), (1, 8, 2, 4, 4), (1, 8, 2, 2, 2, 2, 2)):
        tensors = {"x": t(S, d), "s": i32(*shape), "y": t(shape, d)}
        yield f"RESHAPE to {len(shape)}", tensors, o("RESHAPE", ["x", "s"], ["y"], newShape=list(shape))
    yield "TRANSPOSE", {"x": t(S, d), "p": i32(0, 3, 1, 2), "y": t((1, 4, 8, 8), d)}, o("TRANSPOSE", ["x", "p"], ["y"])
    flat = {"x": t((1, 8, 8), d), "a": t((), "INT32", 3), "y": t((1, 8, 8, 1), d)}
    yield "EXPAND_DIMS", flat, o("EXPAND_DIMS", ["x", "a"], ["y"])
    yield "SQUEEZE", {"x": t((1, 8, 8, 1), d), "y": t((1, 8, 8), d)}, o("SQUEEZE", ["x"], ["y"], squeezeDims=[3])
    yield "TILE", {"x": t(S, d), "m": i32(1, 2, 1, 1), "y": t((1, 16, 8, 4), d)}, o("TILE", ["x", "m"], ["y"])
    yield "GATHER", {"x": t(S, d), "i": i32(0, 2), "y": t((1, 8, 8, 2), d)}, o("GATHER", ["x", "i"], ["y"], axis=3)
    picked = {"x": t(S, d), "i": i32(0, 0, 0, 1, shape=(1, 2, 2)), "y": t((1, 2, 8, 4), d)}
    yield "GATHER_ND", picked, o("GATHER_ND", ["x", "i"], ["y"])
    yield "DEPTH_TO_SPACE", {"x": t(S, d), "y": t((1, 16, 16, 1), d)}, o("DEPTH_TO_SPACE", ["x"], ["y"], blockSize=2)
    yield "SPACE_TO_DEPTH", {"x": t(S, d), "y": t((1, 4, 4, 16), d)}, o("SPACE_TO_DEPTH", ["x"], ["y"], blockSize=2)
    padded = {"x": t(S, d), "p": i32(0, 0, 1, 1, 1, 1, 0, 0, shape=(4, 2)), "y": t((1, 10, 10, 4), d)}
    yield "PAD", padded, o("PAD", ["x", "p"], ["y"])
    yield "PADV2", padded | {"v": t((), d, 1)}, o("PADV2", ["x", "p", "v"], ["y"])
    yield "MIRROR_PAD", padded, o("MIRROR_PAD", ["x", "p"], ["y"], mode=0)


def _seeing(d: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    half = {"x": t(S, d), "y": t((1, 4, 4, 4), d)}
    for kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        yield kind, half, o(kind, ["x"], ["y"], **WINDOW)
        yield f"{kind} skips", half, o(kind, ["x"], ["y"], **WINDOW | {"filterHeight": 1, "filterWidth": 1})
        wide = {"x": t(S, d), "y": t((1, 3, 3, 4), d)}
        yield f"{kind} gaps", wide, o(kind, ["x"], ["y"], **WINDOW | {"strideH": 3, "strideW": 3, "padding": 0})
    for kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        for axes, made in (((1, 2), (1, 1, 1, 4)), ((3,), (1, 8, 8, 1)), ((0, 1, 2, 3), (1, 1, 1, 1))):
            tensors = {"x": t(S, d), "a": i32(*axes), "y": t(made, d)}
            yield f"{kind} over {axes}", tensors, o(kind, ["x", "a"], ["y"], keepDims=True)
    if d != "INT8":  # an 8 bit softmax has a scale and a zero point of its own
        yield "SOFTMAX", {"x": t(S, d), "y": t(S, d)}, o("SOFTMAX", ["x"], ["y"], beta=1.0)
        yield "SOFTMAX beta", {"x": t(S, d), "y": t(S, d)}, o("SOFTMAX", ["x"], ["y"], beta=2.0)
    for kind in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        for corners, centers in ((False, False), (True, False), (False, True)):
            tensors = {"x": t(S, d), "s": i32(16, 16), "y": t((1, 16, 16, 4), d)}
            flags = {"alignCorners": corners, "halfPixelCenters": centers}
            yield f"{kind} {corners:d}{centers:d}", tensors, o(kind, ["x", "s"], ["y"], 3, **flags)


# kernels of the runtime itself refuse these types, so there is nothing to compare
_NO_KERNEL = {
    "INT8": {"FLOOR", "SQUARE", "COS", "SIN", "CEIL", "ROUND", "POW", "POW stored", "POW row", "SIGN", "REDUCE_PROD"},
    "FLOAT32": set(),
}
CASES = [
    pytest.param(tensors, op, id=f"{dtype} {name}")
    for dtype in ("FLOAT32", "INT8")
    for family in (_elementwise, _weighted, _moving, _seeing)
    for name, tensors, op in family(dtype)
    if name not in _NO_KERNEL[dtype]
]


def handed_on(graph: Graph, report: BackendReport) -> list[set[int]]:
    """For each taken part, the tensors that something outside it reads."""
    return [
        {
            tensor
            for number in part.ops
            for tensor in graph.ops[number].outputs
            if tensor in graph.outputs or any(reader.number not in part.ops for reader in graph.consumers(tensor))
        }
        for part in report.parts
        if part.taken
    ]


@pytest.mark.parametrize(("tensors", "op"), CASES)
def test_one_operation(
    small_file: Callable[..., Path], runtime_parts: Callable[[Path], list[set[int]]], tensors: Any, op: Any
) -> None:
    path = small_file(tensors, [op])
    verdict = judge_graph(read_graph(path), "xnnpack").verdicts[0]
    assert verdict.taken == bool(runtime_parts(path)), verdict
    assert verdict.taken or verdict.means


def _peers() -> list[Path]:
    return sorted((Path(__file__).resolve().parents[3] / "shared" / "peers").glob("*/*.tflite"))


@pytest.mark.parametrize("path", _peers(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_parts_of_a_whole_network(path: Path, runtime_parts: Callable[[Path], list[set[int]]]) -> None:
    """Not only which operations: the same parts, in the same order, handing on the same tensors."""
    graph = read_graph(path)
    assert handed_on(graph, judge_graph(graph, "xnnpack")) == runtime_parts(path)
