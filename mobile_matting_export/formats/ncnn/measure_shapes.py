"""Asks ncnn itself for the shape of every blob: it runs the network once, on zeros, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.ncnn.net import load_net, strict_fp32_keeping_blobs
from mobile_matting_export.formats.ncnn.param import read


def measure_shapes(param: Path, weights: Path, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Blob name -> channels x height x width (fewer axes where the blob has fewer).

    Raises:
        UsageError: ncnn does not load the files, or fails inside the network at this input size.
        ConversionError: the ncnn runtime is not installed.
    """
    ncnn, net = load_net(param, weights, strict_fp32_keeping_blobs)
    shapes = dict(inputs)
    with net.create_extractor() as extractor:
        for name, shape in inputs.items():
            zeros = np.zeros(shape, np.float32)
            # Mat borrows the array's memory without keeping it alive: `zeros` stays bound over the clone
            extractor.input(name, ncnn.Mat(zeros).clone())
        for name in (blob for layer in read(param).layers for blob in layer.outputs):
            if name in shapes:
                continue
            code, mat = extractor.extract(name)
            if code != 0:
                sizes = ", ".join("x".join(map(str, shape)) for shape in inputs.values())
                raise UsageError(
                    f"ncnn cannot compute blob {name!r} of {param} at input {sizes}; give the right --size"
                )
            shapes[name] = (mat.c, mat.h, mat.w)[3 - mat.dims :] if mat.dims <= 3 else (mat.c, mat.d, mat.h, mat.w)
    net.clear()
    return shapes
