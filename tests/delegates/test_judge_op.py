"""Each condition of the table, one by one, on a small generated file that fails it and one that does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_matting_export.delegates.judge_graph import judge_graph
from mobile_matting_export.delegates.judge_op import judge_op
from mobile_matting_export.delegates.predicates import PREDICATES
from mobile_matting_export.delegates.rules import load_rules
from mobile_matting_export.formats.tflite.read_graph import read_graph
from mobile_matting_export.inspection import Graph, Op, Tensor, Verdict

S = (1, 8, 8, 4)
GPUS = ("classic", "ml_drift")
STEPS = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 0}
WINDOW = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}


def t(shape: tuple[int, ...] = S, dtype: str = "FLOAT32", data: Any = None, scales: Any = None) -> tuple[Any, ...]:
    return shape, dtype, data, scales


def o(kind: str, reads: str, writes: str = "y", version: int = 1, **options: Any) -> tuple[Any, ...]:
    return kind, reads.split(), writes.split(), options, version


def i32(*values: int, shape: tuple[int, ...] | None = None) -> tuple[Any, ...]:
    return t(shape or (len(values),), "INT32", np.reshape(values, shape or (len(values),)))


X, W, B = t(), t((4, 3, 3, 4), data=1.0), t((4,), data=0.0)
CONV = {"x": X, "w": W, "b": B, "y": X}
DEPTH = {"x": X, "w": t((1, 3, 3, 4), data=1.0), "b": B, "y": X}
PAD = {"x": X, "p": i32(0, 0, 1, 1, 1, 1, 0, 0, shape=(4, 2)), "y": t((1, 10, 10, 4))}
CUT = {"x": X, "b": i32(0, 0, 0, 0), "s": i32(1, 8, 8, 2), "y": t((1, 8, 8, 2))}
STRIDED = {"x": X, "b": i32(0, 0, 0, 0), "e": i32(1, 8, 8, 4), "s": i32(1, 2, 2, 1), "y": t((1, 4, 4, 4))}
DECONV = {
    "s": i32(1, 16, 16, 6),
    "w": t((6, 2, 2, 4), data=1.0),
    "x": X,
    "b": t((6,), data=0.0),
    "y": t((1, 16, 16, 6)),
}
TWO = {"x": X, "z": X, "y": X}
RESIZE = {"x": X, "s": i32(16, 16), "y": t((1, 16, 16, 4))}
MEAN = {"x": X, "a": i32(1, 2), "y": t((1, 1, 1, 4))}
LINEAR = {"x": t((1, 32)), "w": t((6, 32), data=1.0), "b": t((6,), data=0.0), "y": t((1, 6))}
RANK5 = {"x": X, "s": i32(1, 8, 2, 4, 4), "y": t((1, 8, 2, 4, 4))}
MASK = {"x": X, "z": X, "m": t(S, "BOOL"), "y": X}
INT8 = t(S, "INT8")

# condition -> backends, tensors, operations (the last one is judged)
FAILS: dict[str, tuple[tuple[str, ...], dict[str, Any], list[Any]]] = {
    "version": (GPUS, DECONV, [o("TRANSPOSE_CONV", "s w x b", version=4, fusedActivationFunction=1)]),
    "rank_below_5": (GPUS, RANK5, [o("RESHAPE", "x s")]),
    "runtime_types_classic": (("classic",), {"x": t(S, "INT32"), "y": t(S, "INT32")}, [o("NEG", "x")]),
    "runtime_types_ml_drift": (("ml_drift",), {"x": t(S, "INT64"), "y": t(S, "INT64")}, [o("NEG", "x")]),
    "some_runtime_input": (("xnnpack",), {"x": t(data=1.0), "y": X}, [o("NEG", "x")]),
    "two_inputs": (GPUS, TWO | {"v": X}, [o("ADD", "x z v")]),
    "two_inputs_and_one_output": (("classic",), TWO | {"v": X}, [o("BATCH_MATMUL", "x z v")]),
    "three_inputs": (("classic",), CUT, [o("SLICE", "x b")]),
    "four_inputs": (("classic",), STRIDED, [o("STRIDED_SLICE", "x b e")]),
    "one_runtime_input": (GPUS, PAD | {"p": t((4, 2), "INT32")}, [o("PAD", "x p")]),
    "one_or_two_runtime_inputs": (
        ("classic",),
        CONV | {"w": t((4, 3, 3, 4)), "b": t((4,))},
        [o("CONV_2D", "x w b", **STEPS)],
    ),
    "at_most_two_runtime_inputs": (GPUS, LINEAR | {"w": t((6, 32)), "b": t((6,))}, [o("FULLY_CONNECTED", "x w b")]),
    "no_constant_input": (GPUS, {"x": X, "z": t(data=1.0), "y": X}, [o("NEG", "x z")]),
    "one_constant_input": (GPUS, MEAN | {"b": B}, [o("MEAN", "x a b")]),
    "two_constant_inputs": (("ml_drift",), {"x": X, "a": i32(1), "y": X}, [o("SPLIT_V", "x a")]),
    "runtime_source": (GPUS, LINEAR | {"x": t((1, 32), data=1.0), "w": t((6, 32))}, [o("FULLY_CONNECTED", "x w b")]),
    "binary_operands": (GPUS, TWO | {"v": X}, [o("SUB", "x z v")]),
    "mixed_rank_broadcast": (("classic",), TWO | {"z": t((8, 4))}, [o("ADD", "x z")]),
    "broadcastable": (("ml_drift",), TWO | {"z": t((1, 3, 8, 4))}, [o("ADD", "x z")]),
    "constant_operand_classic": (
        ("classic",),
        {"x": t((2, 8, 8, 4)), "z": t((2, 8, 8, 4), data=1.0), "y": t((2, 8, 8, 4))},
        [o("MUL", "x z")],
    ),
    "constant_operand_ml_drift": (("ml_drift",), TWO | {"z": t((1, 1, 1, 1, 1), data=1.0)}, [o("MUL", "x z")]),
    "distinct_operands": (GPUS, {"x": X, "y": X}, [o("SUB", "x x")]),
    "gpu_activation": (GPUS, CONV, [o("CONV_2D", "x w b", **STEPS, fusedActivationFunction=5)]),
    "xnnpack_activation": (("xnnpack",), CONV, [o("CONV_2D", "x w b", **STEPS, fusedActivationFunction=4)]),
    "logical_consumer": (("classic",), {"x": X, "z": X, "y": t(S, "BOOL")}, [o("GREATER", "x z")]),
    "alpha_constant": (GPUS, {"x": X, "a": t((4,)), "y": X}, [o("PRELU", "x a")]),
    "alpha_shape": (GPUS, {"x": X, "a": t((1,), data=0.1), "y": X}, [o("PRELU", "x a")]),
    "positive_window": (GPUS, {"x": X, "y": X}, [o("MAX_POOL_2D", "x", **WINDOW | {"strideH": 0})]),
    "positive_stride": (("classic",), DECONV, [o("TRANSPOSE_CONV", "s w x b", version=3, strideH=0, strideW=2)]),
    "positive_stride_dilation": (("classic",), CONV, [o("CONV_2D", "x w b", **STEPS | {"dilationHFactor": 0})]),
    "depthwise_rank_4": (
        GPUS,
        DEPTH | {"x": t((8, 8, 4))},
        [o("DEPTHWISE_CONV_2D", "x w b", **STEPS, depthMultiplier=1)],
    ),
    "depth_multiplier": (
        GPUS,
        DEPTH | {"w": t((1, 3, 3, 8), data=1.0), "b": t((8,), data=0.0), "y": t((1, 8, 8, 8))},
        [o("DEPTHWISE_CONV_2D", "x w b", **STEPS, depthMultiplier=2)],
    ),
    "depthwise_shapes": (
        GPUS,
        DEPTH | {"y": t((1, 8, 8, 5))},
        [o("DEPTHWISE_CONV_2D", "x w b", **STEPS, depthMultiplier=1)],
    ),
    "default_weights_format": (GPUS, LINEAR, [o("FULLY_CONNECTED", "x w b", weightsFormat=1)]),
    "keep_num_dims_rank": (GPUS, LINEAR | {"x": t((1, 1, 1, 32))}, [o("FULLY_CONNECTED", "x w b", keepNumDims=True)]),
    "weight_channels": (GPUS, LINEAR | {"x": t((1, 2, 2, 8))}, [o("FULLY_CONNECTED", "x w b")]),
    "matmul_constant_rank_2": (("classic",), TWO | {"z": t((1, 1, 4, 4), data=1.0)}, [o("BATCH_MATMUL", "x z")]),
    "matmul_constant_rank_2_to_4": (("ml_drift",), TWO | {"x": t(data=1.0)}, [o("BATCH_MATMUL", "x z")]),
    "concat_single_axis": (GPUS, TWO | {"y": t((1, 16, 8, 8))}, [o("CONCATENATION", "x z", axis=3)]),
    "constant_axis_0": (("ml_drift",), {"a": t((), "INT32"), "x": X, "y": X}, [o("SPLIT", "a x", numSplits=1)]),
    "constant_axis_1": (
        ("ml_drift",),
        {"x": X, "a": t((), "INT32"), "y": t((1, 8, 8), "INT32")},
        [o("ARG_MAX", "x a")],
    ),
    "rank_3_or_4": (("classic",), CUT | {"x": t((8, 8))}, [o("SLICE", "x b s")]),
    "rank_up_to_4": (("ml_drift",), CUT | {"x": t((1, 1, 8, 8, 4))}, [o("SLICE", "x b s")]),
    "constant_parameters": (("ml_drift",), CUT | {"s": t((4,), "INT32")}, [o("SLICE", "x b s")]),
    "slice_shapes": (GPUS, CUT | {"y": t((1, 8, 8, 3))}, [o("SLICE", "x b s")]),
    "no_masks": (GPUS, STRIDED, [o("STRIDED_SLICE", "x b e s", shrinkAxisMask=8)]),
    "positive_strides": (GPUS, STRIDED | {"s": i32(1, -1, 1, 1)}, [o("STRIDED_SLICE", "x b e s")]),
    "permutation_length": (("ml_drift",), {"x": X, "p": i32(0), "y": X}, [o("TRANSPOSE", "x p")]),
    "gather_operands": (("classic",), {"x": t(data=1.0), "i": i32(0, 1), "y": X}, [o("GATHER", "x i")]),
    "indices_rank_1": (GPUS, {"x": X, "i": i32(0, 1, shape=(1, 2)), "y": X}, [o("GATHER", "x i")]),
    "indices_int32": (GPUS, {"x": X, "i": t((2,), "INT64", [0, 1]), "y": X}, [o("GATHER", "x i")]),
    "output_int32": (("ml_drift",), {"x": X, "a": i32(3), "y": t((1, 8, 8), "INT64")}, [o("ARG_MAX", "x a")]),
    "select_types": (GPUS, MASK | {"m": t(S, "INT32")}, [o("SELECT_V2", "m x z")]),
    "cast_pair": (("classic",), {"x": t(S, "BOOL"), "y": X}, [o("CAST", "x")]),
    "cast_no_int64": (("ml_drift",), {"x": t(S, "INT64"), "y": X}, [o("CAST", "x")]),
    "block_above_1": (("classic", "ml_drift", "xnnpack"), {"x": X, "y": X}, [o("DEPTH_TO_SPACE", "x", blockSize=1)]),
    "constant_int32_axes": (GPUS, MEAN | {"a": t((2,), "INT64", [1, 2])}, [o("MEAN", "x a")]),
    "cumsum_axis": (GPUS, {"x": X, "a": t((), "INT32"), "y": X}, [o("CUMSUM", "x a")]),
    "softmax_beta_1": (("classic", "ml_drift", "xnnpack"), {"x": X, "y": X}, [o("SOFTMAX", "x", beta=2.0)]),
    "one_alignment": (GPUS, RESIZE, [o("RESIZE_BILINEAR", "x s", version=3, alignCorners=True, halfPixelCenters=True)]),
    "padding_shape": (GPUS, PAD | {"p": i32(1, 1, 1, 1, shape=(2, 2))}, [o("PAD", "x p")]),
    "finite_padding": (("classic",), PAD | {"v": t((), data=-math.inf)}, [o("PADV2", "x p v")]),
    "scalar_padding": (("ml_drift",), PAD | {"v": t((2,), data=1.0)}, [o("PADV2", "x p v")]),
    "reflect_only": (GPUS, PAD, [o("MIRROR_PAD", "x p", mode=1)]),
    "scale_per_tensor": (GPUS, {"x": X, "y": t(S, "INT8", None, (0.1, 0.2, 0.3, 0.4))}, [o("QUANTIZE", "x")]),
    "dequantize_not_int16": (("classic",), {"x": t(S, "INT16", None, (0.1,)), "y": X}, [o("DEQUANTIZE", "x")]),
    "one_scale": (("ml_drift",), {"x": t(S, "INT8", None, (0.1,) * 4), "y": X}, [o("DEQUANTIZE", "x")]),
    "stored_rank_2_to_4": (("ml_drift",), {"x": t((4,), "INT8", 1), "y": t((4,))}, [o("DEQUANTIZE", "x")]),
    "one_hot_rules": (
        ("classic",),
        {"x": t((1, 8), "INT64"), "d": i32(4), "n": t((), data=1.0), "f": t((), data=0.0), "y": t((1, 8, 4))},
        [o("ONE_HOT", "x d n f")],
    ),
    "xnnpack_types": (("xnnpack",), {"x": t(S, "INT32"), "z": t(S, "INT32"), "y": t(S, "INT32")}, [o("ADD", "x z")]),
    "xnnpack_int8": (("xnnpack",), {"x": t(S, "UINT8"), "y": t(S, "UINT8")}, [o("ELU", "x")]),
    "xnnpack_float32_types": (("xnnpack",), RESIZE | {"x": t(S, "FLOAT16")}, [o("RESIZE_BILINEAR", "x s")]),
    "xnnpack_float": (("xnnpack",), {"x": INT8, "y": INT8}, [o("AVERAGE_POOL_2D", "x", **WINDOW)]),
    "quantize_types": (("xnnpack",), {"x": X, "y": t(S, "INT16", None, (0.1,))}, [o("QUANTIZE", "x")]),
    "has_bias": (("xnnpack",), DEPTH, [o("DEPTHWISE_CONV_2D", "x w", **STEPS, depthMultiplier=1)]),
    "static_weights": (("xnnpack",), CONV | {"w": t((4, 3, 3, 4))}, [o("CONV_2D", "x w b", **STEPS)]),
    "static_deconv_weights": (
        ("xnnpack",),
        DECONV | {"w": t((6, 2, 2, 4))},
        [o("TRANSPOSE_CONV", "s w x b", version=3)],
    ),
    "static_shape": (("xnnpack",), DECONV | {"s": t((4,), "INT32")}, [o("TRANSPOSE_CONV", "s w x b", version=3)]),
    "static_slope": (("xnnpack",), {"x": X, "a": t((4,)), "y": X}, [o("PRELU", "x a")]),
    "static_parameters": (("xnnpack",), PAD | {"p": t((4, 2), "INT32")}, [o("PAD", "x p")]),
    "pooling_window": (
        ("xnnpack",),
        {"x": X, "y": t((1, 4, 4, 4))},
        [o("MAX_POOL_2D", "x", **WINDOW | {"filterHeight": 1, "filterWidth": 1})],
    ),
    "pooling_stride": (
        ("xnnpack",),
        {"x": X, "y": t((1, 2, 2, 4))},
        [o("MAX_POOL_2D", "x", **WINDOW | {"strideW": 3})],
    ),
    "positive_sizes": (("xnnpack",), CUT | {"s": i32(1, -1, 8, 2)}, [o("SLICE", "x b s")]),
    "addition_scales": (("xnnpack",), {"x": INT8, "z": t(S, "INT8", None, (1e-9,)), "y": INT8}, [o("ADD", "x z")]),
    "product_scales": (("xnnpack",), {"x": INT8, "z": t(S, "INT8", None, (1e-9,)), "y": INT8}, [o("MUL", "x z")]),
    "rank_up_to_6": (("xnnpack",), {"x": X, "s": i32(1), "y": t((1, 8, 2, 2, 2, 2, 2))}, [o("RESHAPE", "x s")]),
    "unit_strides": (("xnnpack",), STRIDED, [o("STRIDED_SLICE", "x b e s")]),
    "no_masks_xnnpack": (
        ("xnnpack",),
        STRIDED | {"s": i32(1, 1, 1, 1)},
        [o("STRIDED_SLICE", "x b e s", newAxisMask=1)],
    ),
    "rank_4": (("xnnpack",), RESIZE | {"x": t((8, 8, 4))}, [o("RESIZE_BILINEAR", "x s")]),
    "split_up_to_4": (("xnnpack",), {"a": i32(3), "x": X, "y": X}, [o("SPLIT", "a x", numSplits=1)]),
    "concat_2_to_5": (("xnnpack",), {"x": X, "y": X}, [o("CONCATENATION", "x", axis=3)]),
}

# what must not be refused: the same operations as matting networks use them
TAKEN: dict[str, tuple[tuple[str, ...], dict[str, Any], list[Any]]] = {
    "TRANSPOSE_CONV without activation": (
        GPUS,
        DECONV,
        [o("TRANSPOSE_CONV", "s w x b", version=3, strideH=2, strideW=2)],
    ),
    "RESHAPE to 4 axes": (GPUS, {"x": X, "s": i32(1, 64, 1, 4), "y": t((1, 64, 1, 4))}, [o("RESHAPE", "x s")]),
    "ADD of one per channel": (GPUS, TWO | {"z": t((4,), data=1.0)}, [o("ADD", "x z")]),
    "ADD of [1,1,1,C]": (GPUS, TWO | {"z": t((1, 1, 1, 4))}, [o("ADD", "x z")]),
    "ADD of three axes": (("classic",), TWO | {"z": t((8, 8, 4))}, [o("ADD", "x z")]),
    "MUL by itself": (GPUS, {"x": X, "y": X}, [o("MUL", "x x")]),
    "CONV_2D with tanh": (GPUS, CONV, [o("CONV_2D", "x w b", **STEPS, fusedActivationFunction=4)]),
    "CONV_2D of stored halves": (
        ("classic", "ml_drift", "xnnpack"),
        CONV | {"h": t((4, 3, 3, 4), "FLOAT16", 1.0), "w": t((4, 3, 3, 4))},
        [o("DEQUANTIZE", "h", "w"), o("CONV_2D", "x w b", **STEPS)],
    ),
    "a bias of stored halves": (
        ("classic", "ml_drift", "xnnpack"),
        CONV | {"h": t((4,), "FLOAT16", 1.0), "b": t((4,))},
        [o("CONV_2D", "x w b", **STEPS), o("DEQUANTIZE", "h", "b")],
    ),
    "DEPTHWISE_CONV_2D": (GPUS, DEPTH, [o("DEPTHWISE_CONV_2D", "x w b", version=2, **STEPS, depthMultiplier=1)]),
    "PRELU per channel": (GPUS, {"x": X, "a": t((1, 1, 4), data=0.1), "y": X}, [o("PRELU", "x a")]),
    "PRELU per value": (GPUS, {"x": X, "a": t((8, 8, 4), data=0.1), "y": X}, [o("PRELU", "x a")]),
    "RELU_0_TO_1 since 2.1.0": (("classic",), {"x": X, "y": X}, [o("RELU_0_TO_1", "x")]),
    "MEAN over rows and columns": (GPUS, MEAN, [o("MEAN", "x a", keepDims=True)]),
    "SUM over channels": (GPUS, MEAN | {"a": i32(3), "y": t((1, 8, 8, 1))}, [o("SUM", "x a", keepDims=True)]),
    "RESIZE_BILINEAR corners": (GPUS, RESIZE, [o("RESIZE_BILINEAR", "x s", version=3, alignCorners=True)]),
    "RESIZE_BILINEAR centers": (GPUS, RESIZE, [o("RESIZE_BILINEAR", "x s", version=3, halfPixelCenters=True)]),
    "RESIZE_BILINEAR legacy": (GPUS, RESIZE, [o("RESIZE_BILINEAR", "x s")]),
    "RESIZE_NEAREST_NEIGHBOR": (GPUS, RESIZE, [o("RESIZE_NEAREST_NEIGHBOR", "x s", version=3)]),
    "MIRROR_PAD reflect": (GPUS, PAD, [o("MIRROR_PAD", "x p", mode=0)]),
    "PADV2 -inf that a pooling absorbs": (
        ("classic",),
        PAD | {"v": t((), data=-math.inf), "q": t((1, 5, 5, 4))},
        [o("MAX_POOL_2D", "y", "q", **WINDOW), o("PADV2", "x p v")],
    ),
    "SPLIT": (
        GPUS,
        {"a": i32(3), "x": X, "y": t((1, 8, 8, 2)), "z": t((1, 8, 8, 2))},
        [o("SPLIT", "a x", "y z", numSplits=2)],
    ),
    "STRIDED_SLICE step 2": (GPUS, STRIDED, [o("STRIDED_SLICE", "x b e s")]),
    "SLICE to the end": (GPUS, CUT | {"s": i32(1, -1, 8, 2)}, [o("SLICE", "x b s")]),
    "TRANSPOSE": (GPUS, {"x": X, "p": i32(0, 3, 1, 2), "y": t((1, 4, 8, 8))}, [o("TRANSPOSE", "x p")]),
    "DEPTH_TO_SPACE": (GPUS, {"x": X, "y": t((1, 16, 16, 1))}, [o("DEPTH_TO_SPACE", "x", blockSize=2)]),
    "BATCH_MATMUL of two computed": (
        GPUS,
        {"x": t((1, 1, 8, 4)), "z": t((1, 1, 4, 8)), "y": t((1, 1, 8, 8))},
        [o("BATCH_MATMUL", "x z")],
    ),
    "CONCATENATION of six": (GPUS, {"x": X, "y": t((1, 8, 8, 24))}, [o("CONCATENATION", "x x x x x x", axis=3)]),
    "GREATER read by one CAST": (
        ("classic",),
        {"x": X, "z": X, "m": t(S, "BOOL"), "y": X},
        [o("CAST", "m"), o("GREATER", "x z", "m")],
    ),
    "QUANTIZE": (GPUS, {"x": X, "y": INT8}, [o("QUANTIZE", "x")]),
    "CONV_2D in 8 bit": (
        ("classic", "ml_drift", "xnnpack"),
        CONV | {"x": INT8, "w": t((4, 3, 3, 4), "INT8", 1), "b": t((4,), "INT32", 0, (0.0025,)), "y": INT8},
        [o("CONV_2D", "x w b", version=3, **STEPS)],
    ),
}

# operations that a backend does not have, with its own words
ABSENT = [
    ("GATHER_ND", "classic", "Operation is not supported."),
    ("GATHER_ND", "ml_drift", "Operation is not supported."),
    ("RELU_0_TO_1", "ml_drift", "Not supported op RELU_0_TO_1"),
    ("BROADCAST_TO", "classic", "Operation is not supported."),
    ("BROADCAST_TO", "ml_drift", "Operation is not supported."),
    ("ARG_MAX", "classic", "Operation is not supported."),
    ("SQUEEZE", "ml_drift", "Operation is not supported."),
    ("RELU_0_TO_1", "xnnpack", ""),
]

File = Callable[[dict[str, Any], list[Any]], Path]


def _verdict(path: Path, backend: str, kind: str) -> Verdict:
    graph = read_graph(path)
    (op,) = [op for op in graph.ops if op.kind == kind][-1:]
    rules = load_rules()
    return judge_op(op, graph, rules.backends[backend], rules)


@pytest.mark.parametrize(
    ("name", "backend"), [(name, backend) for name, (backends, *_) in FAILS.items() for backend in backends]
)
def test_a_condition_that_fails(small_file: File, name: str, backend: str) -> None:
    _, tensors, ops = FAILS[name]
    verdict = _verdict(small_file(tensors, ops), backend, ops[-1][0])
    condition = load_rules().conditions[name]
    assert not verdict.taken
    for shown, template in ((verdict.reason, condition.words(backend)), (verdict.means, condition.means)):
        assert "{" not in shown
        start = template.partition("{")[0]
        assert shown.startswith(start) and (bool(shown) == bool(template))
    assert verdict.fatal == (name in load_rules().rules["tflite", ops[-1][0]].support[backend].at_start)
    assert verdict.remedy or condition.remedy == ""


@pytest.mark.parametrize(
    ("name", "backend"), [(name, backend) for name, (backends, *_) in TAKEN.items() for backend in backends]
)
def test_what_is_taken(small_file: File, name: str, backend: str) -> None:
    _, tensors, ops = TAKEN[name]
    verdict = _verdict(small_file(tensors, ops), backend, ops[-1][0])
    assert verdict.taken, verdict


@pytest.mark.parametrize(("kind", "backend", "words"), ABSENT)
def test_what_a_backend_does_not_have(small_file: File, kind: str, backend: str, words: str) -> None:
    verdict = _verdict(small_file({"x": X, "y": X}, [o(kind, "x")]), backend, kind)
    assert (verdict.taken, verdict.reason) == (False, words)
    assert kind in verdict.means and verdict.remedy


def test_an_operation_nobody_knows_is_refused_by_all() -> None:
    graph = Graph(
        "tflite", (Tensor("x", S, "FLOAT32"), Tensor("y", S, "FLOAT32")), (Op(0, "Matte2", 1, (0,), (1,)),), (0,), (1,)
    )
    for backend in ("classic", "ml_drift", "xnnpack"):
        report = judge_graph(graph, backend)
        assert (report.outcome, report.refused) == ("none", (0,))
        assert "Matte2" in report.verdicts[0].means


def test_an_operation_without_its_inputs_is_refused_not_a_crash() -> None:
    graph = Graph("tflite", (Tensor("y", S, "FLOAT32"),), (Op(0, "DEPTHWISE_CONV_2D", 1, (), (0,)),), (), (0,))
    for backend in ("classic", "ml_drift", "xnnpack"):
        assert not judge_graph(graph, backend).verdicts[0].taken


def test_the_order_is_version_first(small_file: File) -> None:
    path = small_file(RANK5, [o("RESHAPE", "x s")])
    graph = read_graph(path)
    newer = replace(graph, ops=(replace(graph.ops[0], version=7),))
    assert judge_graph(newer, "classic").verdicts[0].reason == "Max version supported: 1. Requested version 7."


def test_every_condition_of_the_table_is_shown_to_fail() -> None:
    conditions = load_rules().conditions
    vulkan = {"vulkan_allowed", "stored_weights", "plain_int8_padding", "plain_gemm"}  # in test_vulkan_rules.py
    assert set(conditions) == set(FAILS) | vulkan
    assert set(conditions) - {"version"} == set(PREDICATES)


def test_a_weight_stays_with_what_reads_it(small_file: File) -> None:
    tensors = CONV | {"h": t((4, 3, 3, 4), "FLOAT16", 1.0), "w": t((4, 3, 3, 4))}
    path = small_file(tensors, [o("DEQUANTIZE", "h", "w"), o("CONV_2D", "x w b", **STEPS, fusedActivationFunction=5)])
    report = judge_graph(read_graph(path), "classic")
    assert (report.outcome, report.refused) == ("none", (0, 1))
    assert "CONV_2D number 1" in report.verdicts[0].means
