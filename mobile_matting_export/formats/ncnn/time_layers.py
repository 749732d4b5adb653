"""Times an ncnn network layer by layer on this machine's CPU, the way it runs: process CPU time of one thread.

ncnn computes a blob when it is asked for, from what it has already: asking for every blob in order runs each layer
once. Blobs lie in an allocator of ours, since ncnn copies a blob that it hands out of its own. Measured on segmatting,
mmnet, portraitnet_video and ldn_fb: the layers add up to 1.01 to 1.03 of the whole frame.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.ncnn.net import fp16_on_cpu, load_net
from mobile_matting_export.formats.ncnn.param import read

_ROUNDS = 20
# the first rounds warm caches and fill the allocator
_WARM_UP = 3


def time_layers(param: Path, weights: Path, inputs: Mapping[str, tuple[int, ...]]) -> tuple[tuple[float, ...], float]:
    """Milliseconds of each layer that is no ``Input``, in the file's order, and of a whole frame: medians.

    Whole frames and frames in layers take turns. ncnn's options are its own, but for one thread.

    Args:
        param: the ``.param`` text.
        weights: the ``.bin``.
        inputs: blob name -> channels x height x width.

    Raises:
        UsageError: ncnn does not load the files, or fails inside the network at this input size.
        ConversionError: the ncnn runtime is not installed.
    """
    ncnn, net = load_net(param, weights, fp16_on_cpu)
    network = read(param)
    layers = [layer.outputs for layer in network.layers if layer.type != "Input"]
    allocator = ncnn.UnlockedPoolAllocator()
    wholes: list[float] = []
    parts: list[list[float]] = [[] for _ in layers]
    for number in range(_ROUNDS + _WARM_UP):
        (whole,) = _run(ncnn, net, allocator, param, inputs, [network.outputs])
        single = _run(ncnn, net, allocator, param, inputs, layers)
        if number >= _WARM_UP:
            wholes.append(whole)
            for times, taken in zip(parts, single, strict=True):
                times.append(taken)
    net.clear()
    return tuple(statistics.median(times) for times in parts), statistics.median(wholes)


def _run(
    ncnn: Any,
    net: Any,
    allocator: Any,
    param: Path,
    inputs: Mapping[str, tuple[int, ...]],
    steps: list[tuple[str, ...]],
) -> list[float]:
    """Run one frame and return the milliseconds of each step: the blobs that it asks for."""
    taken = []
    with net.create_extractor() as extractor:
        extractor.set_blob_allocator(allocator)
        for name, shape in inputs.items():
            ramp = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
            # Mat borrows the array's memory without keeping it alive: `ramp` stays bound over the clone
            extractor.input(name, ncnn.Mat(ramp).clone())
        for blobs in steps:
            begun = time.process_time()
            for blob in blobs:
                # as it lies in memory (1), or ncnn would unpack it; dropped at once, or the next layer copies it
                code, mat = extractor.extract(blob, 1)
                del mat
                if code != 0:
                    sizes = ", ".join("x".join(map(str, shape)) for shape in inputs.values())
                    raise UsageError(
                        f"ncnn cannot compute blob {blob!r} of {param} at input {sizes}; give the right --size"
                    )
            taken.append((time.process_time() - begun) * 1000)
    return taken
