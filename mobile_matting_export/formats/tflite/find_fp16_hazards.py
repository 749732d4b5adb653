"""Finds the operators of a TFLite file that half precision would break, on real inputs.

The file runs in float32; each operator's recorded inputs are held against what a float16 GPU can hold.
The rules, and which backend each one bites, are those of TensorFlow Lite's and ncnn's sources and of public
reports (see each ``where``). What a rule claims is computed, too: the operator again, in simulated half
precision, from its recorded float32 inputs. No hazard found is no proof: only a device gives one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mobile_matting_export.formats.tflite.read_graph import read_graph
from mobile_matting_export.formats.tflite.record_tensors import record_tensors
from mobile_matting_export.inspection import Graph, Hazard, Op

LARGEST = 65504.0
"""The largest float16."""
SMALLEST_NORMAL = 2.0**-14
"""The smallest positive float16 with full precision; GPUs may flush what is below to zero."""

# of a half accumulator: an average that loses more than this moves a matte visibly
_LOST = 0.01
_ALL = "every fp16 backend"
_HALF_SUMS = "ML Drift (reported), ncnn Reduction; the classic GPU delegate adds in float32"
_SMALL_NUMBERS = "GPUs that flush subnormal halves to zero"
_BORDER = "classic GPU delegate (source); ML Drift unknown"


def find_fp16_hazards(path: Path, feeds: Sequence[Mapping[str, np.ndarray]]) -> tuple[Hazard, ...]:
    """The hazards of ``path`` on ``feeds``, by operator; of several feeds the worst evidence counts.

    Args:
        path: a TFLite file, ours or a stranger's.
        feeds: calibration inputs, each as ``record_tensors`` takes it.

    Raises:
        UsageError: as ``record_tensors``.
    """
    graph = read_graph(path)
    found: dict[tuple[int, str], Hazard] = {}
    for feed in feeds:
        values = record_tensors(path, feed)
        for op in graph.ops:
            for hazard in _hazards_of(graph, op, values):
                key = (hazard.op, hazard.kind)
                if key not in found or _size(hazard) > _size(found[key]):
                    found[key] = hazard
    return tuple(found[key] for key in sorted(found))


def _size(hazard: Hazard) -> float:
    return next(iter(hazard.evidence.values()))


def _hazards_of(graph: Graph, op: Op, values: Mapping[int, np.ndarray]) -> Iterator[Hazard]:
    arrays = [values.get(index) for index in op.inputs]
    made = values.get(op.outputs[0]) if op.outputs else None
    if made is None or made.dtype != np.float32 or graph.tensors[op.outputs[0]].constant:
        return
    match op.kind:
        case "MEAN" | "SUM":
            yield from _of_reduction(graph, op, arrays, made)
        case "AVERAGE_POOL_2D":
            yield from _of_pool(graph, op, arrays, values)
        case "RSQRT" | "LOG" | "DIV":
            yield from _of_small_argument(op, arrays)
        case "EXP" if float(arrays[0].max()) > 11.09:  # type: ignore[union-attr]
            largest = float(arrays[0].max())  # type: ignore[union-attr]
            yield Hazard(op.number, "EXP_RANGE", _ALL, f"exp({largest:.4g}) passes {LARGEST:g}, the largest float16",
                         "subtract the maximum first", {"largest_input": largest})  # fmt: skip
        case "ADD":
            yield from _of_tiny_constant(graph, op)
        case "SUB":
            yield from _of_cancellation(graph, op, values)
        case _:
            pass
    if _is_square(op):
        yield from _of_square(op, arrays, made)
    elif op.kind != "SUM":
        yield from _of_result(op, made)
    yield from _of_large_constant(graph, op)


def _of_result(op: Op, made: np.ndarray) -> Iterator[Hazard]:
    largest = float(np.abs(made[np.isfinite(made)]).max(initial=0))
    if largest > LARGEST / 2:
        fate = "becomes infinite" if largest > LARGEST else "is more than half way to infinity"
        yield Hazard(op.number, "STORE_OVERFLOW", _ALL, f"a result of {largest:.4g} {fate} in float16",
                     "scale the weights before it down and those behind it up", {"largest": largest})  # fmt: skip


def _of_reduction(graph: Graph, op: Op, arrays: list[np.ndarray | None], made: np.ndarray) -> Iterator[Hazard]:
    source, axes = arrays[0], arrays[1]
    if source is None or axes is None:
        return
    reduced = tuple(int(axis) % source.ndim for axis in np.atleast_1d(axes))
    count = math.prod(source.shape[axis] for axis in reduced)
    total = float(np.abs(source.astype(np.float64)).sum(reduced).max())
    half = half_sum(source, reduced)
    exact = source.astype(np.float64).sum(reduced)
    error = _relative_error(half, exact)
    evidence = {"largest_sum": total, "numbers": float(count), "error_in_half": error}
    producer = graph.producers.get(op.inputs[0])
    squares = producer is not None and _is_square(producer)
    remedy = "average by a cascade of small average pools (rewrite cascade_means, target tflite-gpu)"
    if op.kind == "SUM" and float(np.abs(exact).max()) > LARGEST:
        yield Hazard(op.number, "SUM_OVERFLOW", _ALL, f"the sum reaches {total:.4g}, above {LARGEST:g}",
                     "take the mean, which is scaled before it is stored", evidence)  # fmt: skip
    elif total > LARGEST:
        kind = "VARIANCE_SUM_OVERFLOW" if squares else "MEAN_OVERFLOW"
        what = "squares" if squares else "numbers"
        yield Hazard(op.number, kind, _HALF_SUMS, f"the sum of {count} {what} reaches {total:.4g}, above {LARGEST:g}",
                     remedy, evidence)  # fmt: skip
    elif error > _LOST:
        yield Hazard(op.number, "SWAMPING", _HALF_SUMS,
                     f"added in half precision, {count} numbers lose {error:.1%}: small terms no longer count",
                     remedy, evidence)  # fmt: skip


def _of_pool(
    graph: Graph, op: Op, arrays: list[np.ndarray | None], values: Mapping[int, np.ndarray]
) -> Iterator[Hazard]:
    source = arrays[0]
    if source is None:
        return
    window = (int(op.options["filterHeight"]), int(op.options["filterWidth"]))
    if math.prod(window) > 1 and window[0] <= source.shape[1] and window[1] <= source.shape[2]:
        steps = (int(op.options["strideH"]), int(op.options["strideW"]))
        windows = np.lib.stride_tricks.sliding_window_view(source, window, axis=(1, 2))[:, :: steps[0], :: steps[1]]
        largest = float(np.abs(windows.sum((-2, -1), dtype=np.float64)).max())
        # up to 16x16 windows tell the rounding
        some = windows[:, :: max(1, windows.shape[1] // 16), :: max(1, windows.shape[2] // 16)]
        error = _relative_error(half_sum(some, (-2, -1)), some.sum((-2, -1), dtype=np.float64))
        if largest > LARGEST or error > _LOST:
            kind = "POOL_OVERFLOW" if largest > LARGEST else "SWAMPING"
            evidence = {"largest_sum": largest, "numbers": float(math.prod(window)), "error_in_half": error}
            yield Hazard(op.number, kind, "ncnn Pooling, ML Drift unknown; the classic GPU delegate adds in float32",
                         f"a window of {window[0]}x{window[1]} adds up to {largest:.4g} and loses {error:.1%} in half "
                         "precision", "several smaller pools, one after the other (rewrite cascade_means)",
                         evidence)  # fmt: skip
    pad = graph.producers.get(op.inputs[0])
    if pad is not None and pad.kind in ("PAD", "PADV2") and len(graph.consumers(op.inputs[0])) == 1:
        yield from _of_padded_pool(op, pad, source, values)


def _of_padded_pool(op: Op, pad: Op, source: np.ndarray, values: Mapping[int, np.ndarray]) -> Iterator[Hazard]:
    paddings = values[pad.inputs[1]]
    if not paddings[1:3].any():
        return
    inside = np.zeros(source.shape[1:3])
    (top, bottom), (left, right) = paddings[1:3].tolist()
    inside[top : source.shape[1] - bottom, left : source.shape[2] - right] = 1
    window = (int(op.options["filterHeight"]), int(op.options["filterWidth"]))
    counted = np.lib.stride_tricks.sliding_window_view(inside, window).sum((-2, -1))
    share = float(window[0] * window[1] / max(1.0, counted[counted > 0].min(initial=window[0] * window[1])))
    yield Hazard(op.number, "PAD_AVERAGE_POOL", _BORDER,
                 f"the delegate merges PAD into the pool and divides by the pixels inside only: borders come out up "
                 f"to {share:.3g} times too large",
                 "a depthwise convolution with weights 1/k^2 (rewrite box_filter_to_depthwise)",
                 {"largest_border_factor": share})  # fmt: skip


def _of_small_argument(op: Op, arrays: list[np.ndarray | None]) -> Iterator[Hazard]:
    value = arrays[1] if op.kind == "DIV" and len(arrays) > 1 else arrays[0]
    if value is None or value.size == 0:
        return
    smallest = float(np.abs(value).min())
    if smallest < SMALLEST_NORMAL:
        name = {"RSQRT": "rsqrt", "LOG": "log", "DIV": "1 /"}[op.kind]
        yield Hazard(op.number, "RSQRT_SMALL", _SMALL_NUMBERS,
                     f"{name} of {smallest:.3g}: flushed to zero it is infinite, and 0 times infinity is NaN",
                     "scale what it is made of (rewrite scale_instance_norm), or a larger eps",
                     {"smallest_input_inverse": 1 / max(smallest, 1e-30), "smallest_input": smallest})  # fmt: skip


def _of_tiny_constant(graph: Graph, op: Op) -> Iterator[Hazard]:
    for tensor in graph.inputs_of(op):
        numbers = [abs(number) for number in tensor.values or () if 0 < abs(number) < SMALLEST_NORMAL]
        readers = {reader.kind for reader in _readers(graph, op)}
        if numbers and readers & {"RSQRT", "SQRT", "DIV", "LOG", "POW"}:
            yield Hazard(op.number, "EPS_SUBNORMAL", _SMALL_NUMBERS,
                         f"the eps {min(numbers):.3g} is below {SMALLEST_NORMAL:.3g} and may become zero",
                         "scale what it is added to (rewrite scale_instance_norm), or a larger eps",
                         {"eps_inverse": 1 / min(numbers), "eps": min(numbers)})  # fmt: skip


def _readers(graph: Graph, op: Op) -> Iterator[Op]:
    """What reads the result, past operators that only arrange it."""
    for reader in graph.consumers(op.outputs[0]):
        if reader.kind in ("RESHAPE", "TRANSPOSE"):
            yield from _readers(graph, reader)
        else:
            yield reader


def _of_large_constant(graph: Graph, op: Op) -> Iterator[Hazard]:
    if op.kind not in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"):
        return
    largest = max((abs(number) for t in graph.inputs_of(op) if "FLOAT" in t.dtype for number in t.values or ()),
                  default=0.0)  # fmt: skip
    if largest > LARGEST:
        yield Hazard(op.number, "MASK_CONST", _ALL, f"the constant {largest:.3g} becomes infinite in float16",
                     "use at most 6e4", {"largest": largest})  # fmt: skip


def _of_square(op: Op, arrays: list[np.ndarray | None], made: np.ndarray) -> Iterator[Hazard]:
    largest = float(made.max())
    if largest > LARGEST:
        yield Hazard(op.number, "SQUARE_OVERFLOW", _ALL,
                     f"a square of {largest:.4g} (of {math.sqrt(largest):.4g}) becomes infinite in float16",
                     "scale by a power of two before squaring", {"largest": largest})  # fmt: skip
    if made.ndim != 4:
        return
    exact = made.astype(np.float64).mean((0, 1, 2))
    kept = np.where(made < SMALLEST_NORMAL, 0, made).mean((0, 1, 2), dtype=np.float64)
    # below, the eps of the norm behind it outweighs the squares
    felt = exact > 1e-5
    lost = float((1 - kept[felt] / exact[felt]).max(initial=0))
    if lost > 10 * _LOST:
        yield Hazard(op.number, "SQUARES_VANISH", _SMALL_NUMBERS,
                     f"{lost:.0%} of a channel's mean square lies in squares below {SMALLEST_NORMAL:.3g}",
                     "scale by a power of two before squaring (rewrite scale_instance_norm)",
                     {"error_in_half": lost})  # fmt: skip


def _of_cancellation(graph: Graph, op: Op, values: Mapping[int, np.ndarray]) -> Iterator[Hazard]:
    """mean(x^2) - mean(x)^2."""
    left, right = (graph.producers.get(index) for index in op.inputs[:2])
    if left is None or right is None or left.kind not in ("MEAN", "AVERAGE_POOL_2D") or not _is_square(right):
        return
    squared = graph.producers.get(left.inputs[0])
    if squared is None or not _is_square(squared):
        return
    mean_square, variance = values[op.inputs[1]].astype(np.float64), values[op.outputs[0]].astype(np.float64)
    ratio = float((mean_square / np.maximum(np.abs(variance), 1e-12)).max())
    if ratio > 50:
        halves = values[op.inputs[0]].astype(np.float16) - values[op.inputs[1]].astype(np.float16)
        error = _relative_error(halves, variance)
        yield Hazard(op.number, "VARIANCE_CANCELLATION", _ALL,
                     f"mean(x^2) - mean(x)^2 cancels: the mean squared is {ratio:.3g} times the variance",
                     "mean((x - mean)^2), or subtract a constant from x first",
                     {"mean_square_to_variance": ratio, "error_in_half": error})  # fmt: skip


def _is_square(op: Op) -> bool:
    twice = op.kind == "MUL" and len(op.inputs) == 2 and op.inputs[0] == op.inputs[1]
    return twice or op.kind in ("SQUARE", "SQUARED_DIFFERENCE")


def half_sum(source: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The sum over ``axes`` in a float16 register, one number after the other, the last axis first."""
    total = source.astype(np.float16)
    with np.errstate(over="ignore", invalid="ignore"):
        for axis in sorted((axis % source.ndim for axis in axes), reverse=True):
            total = np.add.accumulate(total, axis=axis, dtype=np.float16).take(-1, axis=axis)
    return total


def _relative_error(half: np.ndarray, exact: np.ndarray) -> float:
    """The largest error, in units of the largest exact number; 1, all is lost, where half precision overflows."""
    if not np.isfinite(half).all():
        return 1.0
    return min(1.0, float(np.abs(half.astype(np.float64) - exact).max() / max(float(np.abs(exact).max()), 1e-30)))
