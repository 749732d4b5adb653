"""Takes one output from what a runner wrote of a frame: all outputs of the file, one after the other. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from android_bench.job import Tensor


def take_output(raw: bytes, outputs: Sequence[Tensor], name: str) -> npt.NDArray[np.float32]:
    """The real numbers of the output ``name``, in its shape.

    Args:
        raw: little-endian numbers in the outputs' own types. benchmark_model's ``--output_filepath`` is taken to
            write every output in the file's order; what a build writes otherwise has another size.
        outputs: of the file, in its order.
        name: one of them.

    Raises:
        ValueError: the outputs together are of another size, so that nobody knows where each begins.
    """
    sizes = {tensor.name: math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize for tensor in outputs}
    if len(raw) != sum(sizes.values()):
        listed = " and ".join(f"{key} {size}" for key, size in sizes.items())
        raise ValueError(f"the runner wrote {len(raw)} bytes, where the manifest has {listed}")
    begin = sum(size for key, size in list(sizes.items())[: list(sizes).index(name)])
    tensor = next(entry for entry in outputs if entry.name == name)
    values = np.frombuffer(raw[begin : begin + sizes[name]], np.dtype(tensor.dtype).newbyteorder("<"))
    real = (values.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale)
    return real.reshape(tensor.shape)
