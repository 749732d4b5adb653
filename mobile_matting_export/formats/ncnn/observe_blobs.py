"""Runs the float network over calibration frames and shows the values that int8 layers would read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.list_int8_layers import read_blobs


def observe(files: tuple[Path, ...], frames: Sequence[Mapping[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and values of every blob that a layer which can be int8 reads, frame by frame.

    A blob that reaches several layers through ``Split`` is yielded once, under the name it has before. Everything is
    computed in float32 on one thread.

    Args:
        files: ``.param`` and ``.bin`` in fp32.
        frames: input name -> float32 1xCxHxW.

    Yields:
        blob name and float32 channels x height x width (fewer axes where the blob has fewer).

    Raises:
        UsageError: a file is missing or damaged, or a frame does not fit the network.
        ConversionError: the ncnn runtime is not installed, or fails inside the network.
    """
    param, _ = net.split_files(files)
    blobs = read_blobs(net.read_network(param))
    loaded = net.LoadedNet(files, net.strict_fp32_keeping_blobs)
    try:
        for frame in frames:
            yield from loaded.read_blobs(frame, blobs)
    finally:
        loaded.close()
