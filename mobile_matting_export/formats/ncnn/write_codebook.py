"""Weights in 8 bits, arithmetic in float (precision ``w8``): each large weight is an entry of a table of 256 numbers.

The ``.bin`` has a storage for it: the table in float32, then one byte for each weight (Tencent/ncnn,
``src/modelbin.cpp``). ncnn looks the numbers up while it loads the file and computes as with any other weights.
The table is the weight's own, found by Lloyd's algorithm (S. P. Lloyd, "Least Squares Quantization in PCM", 1982):
each weight goes to the nearest entry, each entry to the mean of its weights, until nothing moves.
"""

from __future__ import annotations

import heapq
import struct
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import SMALL_WEIGHT
from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.lower import keep_box_filters_exact
from mobile_matting_export.formats.ncnn.quantize import require_float32
from mobile_matting_export.formats.ncnn.walk_weights import (
    CODEBOOK_ENTRIES,
    CODEBOOK_TAG,
    Stored,
    walk_weights,
)
from mobile_matting_export.formats.ncnn.write_files import write_files

# it moves by less than a hundredth of a step from then on
_ROUNDS = 100
_TINY = 1e-300


def weights_only(files: tuple[Path, ...], folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``<stem>.ncnn.param`` and ``<stem>.ncnn.bin`` with 8-bit weights into ``folder`` and return them.

    Weights of at most ``SMALL_WEIGHT`` elements stay float32: they would grow by their table. The same files give
    the same bytes. What was written is read again and run.

    Args:
        files: ``.param`` and ``.bin`` in fp32.
        folder: an existing folder.
        stem: of the files' names.

    Raises:
        UsageError: a file is missing or damaged.
        ConversionError: a weight cannot be read or is not finite, or ncnn does not run the result.
    """
    param, weights = net.split_files(files)
    network = net.read_network(param)
    content = b"".join(_shorten(stored) for stored in walk_weights(network, weights.read_bytes()))
    return write_files(keep_box_filters_exact(network), content, folder, stem)


def _shorten(stored: Stored) -> bytes:
    require_float32(stored)
    if stored.tag is None or stored.block.count <= SMALL_WEIGHT:
        return stored.raw
    values = stored.values()
    if not np.isfinite(values).all():
        raise ConversionError(
            f"a weight of layer {stored.layer.name!r} ({stored.layer.type}) is not finite; check the checkpoint"
        )
    table = make_codebook(values)
    entries = nearest(table, values).tobytes()
    return struct.pack("<I", CODEBOOK_TAG) + table.tobytes() + entries + bytes(-len(entries) % 4)


def make_codebook(values: np.ndarray) -> np.ndarray:
    """Return 256 ascending float32 numbers near the flat float32 ``values``; of no more different ones, just these."""
    different = np.unique(values)
    if len(different) <= CODEBOOK_ENTRIES:
        return np.pad(different, (0, CODEBOOK_ENTRIES - len(different)), mode="edge")
    ordered = np.sort(values).astype(np.float64)
    sums, squares = (np.concatenate([[0.0], np.cumsum(ordered**power)]) for power in (1, 2))
    edges = _split(ordered, sums, squares)
    table = np.diff(sums[edges]) / np.diff(edges)
    for _ in range(_ROUNDS):
        ends = np.searchsorted(ordered, (table[:-1] + table[1:]) / 2)
        edges = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(edges)
        means = np.divide(np.diff(sums[edges]), counts, out=table.copy(), where=counts > 0)
        if np.array_equal(means, table):
            break
        table = np.sort(means)
    return table.astype("<f4")


def _split(ordered: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return the edges of 256 cells: time and again the one with the largest squared error is cut at its mean.

    Lloyd's algorithm moves entries to their neighbours' places only, so it must begin with a fair share everywhere.
    """

    def cell(start: int, end: int) -> tuple[float, int, int]:
        total = float(sums[end] - sums[start])
        error = float(squares[end] - squares[start]) - total * total / (end - start)
        # rounding must not find an error among equal numbers
        return (0.0 if ordered[start] == ordered[end - 1] else -max(error, _TINY)), start, end

    cells = [cell(0, len(ordered))]
    while len(cells) < CODEBOOK_ENTRIES:
        _, start, end = heapq.heappop(cells)
        mean = (sums[end] - sums[start]) / (end - start)
        middle = start + int(np.searchsorted(ordered[start:end], mean))
        middle = min(max(middle, start + 1), end - 1)
        heapq.heappush(cells, cell(start, middle))
        heapq.heappush(cells, cell(middle, end))
    return np.array([0, *sorted(end for _, _, end in cells)])


def nearest(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each of ``values`` the number of the nearest entry of the ascending ``table``, as bytes."""
    return np.searchsorted((table[:-1].astype(np.float64) + table[1:]) / 2, values).astype(np.uint8)
