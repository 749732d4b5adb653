"""Time files of several converters in turns, in one process: one thread, process CPU time, a new order each round.

A figure of one run says little on a machine that does other work; ratios of two files within the same round do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.bootstrap import interval
from mobile_matting_export.formats.ncnn import param

Call = Callable[[], object]

_WARM_UP = 5


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of ``ours / theirs`` over rounds, and its 95 % bootstrap interval; below 1 ours is faster."""

    value: float
    low: float
    high: float


def open_call(file: Path, image: np.ndarray) -> Call:
    """A function that runs ``file`` once on ``image``: a ``.tflite``, or a ``.param`` with its ``.bin`` beside it.

    Args:
        file: of any converter; several inputs share the channels of ``image`` in their order.
        image: float32 CxHxW, C the sum of all inputs' channels, at the file's own size.

    Raises:
        ValueError: the channels or the size do not fit the file, or the runtime refuses it.
    """
    return _open_tflite(file, image) if file.suffix == ".tflite" else _open_ncnn(file, image)


def time_in_turns(calls: Mapping[str, Call], rounds: int, seed: int = 0) -> dict[str, list[float]]:
    """Milliseconds of process CPU time by name, one a round; each is called once untimed before it is timed."""
    order, shuffle = list(calls), random.Random(seed).shuffle
    milliseconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(_WARM_UP):
            call()
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            calls[name]()  # brings the caches to what the next call finds on a phone that films
            start = time.process_time()
            calls[name]()
            milliseconds[name].append((time.process_time() - start) * 1e3)
    return milliseconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Compare two files' times, round by round."""
    logs = np.log(ours) - np.log(theirs)
    low, high = interval(logs.tolist())
    return Ratio(float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)))


def _open_tflite(file: Path, image: np.ndarray) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    # a signature's names come in the graph's order in none of the converters' lists: indices do
    details = sorted(interpreter.get_input_details(), key=lambda entry: entry["index"])
    shapes = [tuple(int(side) for side in entry["shape"]) for entry in details]
    for entry, part in zip(details, _split(file, image, [shape[3] for shape in shapes]), strict=True):
        interpreter.set_tensor(entry["index"], np.ascontiguousarray(part.transpose(1, 2, 0))[None])
    call: Call = interpreter.invoke
    call()
    return call


def _open_ncnn(file: Path, image: np.ndarray) -> Call:
    import ncnn

    net: Any = ncnn.Net()
    net.opt.num_threads = 1
    if net.load_param(str(file)) or net.load_model(str(file.with_suffix(".bin"))):
        raise ValueError(f"ncnn does not load {file}")
    # pnnx states no sizes, and has one input only
    channels = [layer.setting(2, image.shape[0]) for layer in param.read(file).inputs]
    parts = [np.ascontiguousarray(part) for part in _split(file, image, channels)]
    # a Mat of an array borrows its memory
    mats = {name: ncnn.Mat(part).clone() for name, part in zip(net.input_names(), parts, strict=True)}
    (output,) = net.output_names()

    def call() -> object:
        extractor = net.create_extractor()
        for name, mat in mats.items():
            extractor.input(name, mat)
        failed, result = extractor.extract(output)
        if failed:
            raise ValueError(f"ncnn does not run {file}")
        return result

    call()
    return call


def _split(file: Path, image: np.ndarray, channels: Sequence[int]) -> list[np.ndarray]:
    if sum(channels) != image.shape[0]:
        raise ValueError(f"{file} takes {' + '.join(map(str, channels))} channels, the picture has {image.shape[0]}")
    ends = np.cumsum(channels)
    return [image[end - count : end] for end, count in zip(ends, channels, strict=True)]
