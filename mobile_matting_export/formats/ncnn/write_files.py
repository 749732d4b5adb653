"""Writes a ``.param`` and its ``.bin`` as one artifact, and has ncnn compute with them before anybody gets them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.param import ParamFile
from mobile_matting_export.formats.ncnn.walk_weights import walk_weights


def write_files(network: ParamFile, weights: bytes, folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``<stem>.ncnn.param`` and ``<stem>.ncnn.bin`` into the existing ``folder`` and return them.

    Both are written and checked in a folder beside their places and then moved: whoever looks finds a pair that
    computes or, after an error, neither.

    Raises:
        ConversionError: what was written reads back as another network, its weights do not belong to it, or ncnn
            does not load it or computes numbers that are not finite.
        OSError: as a full disk.
    """
    names = (f"{stem}.ncnn.param", f"{stem}.ncnn.bin")
    files = tuple(folder / name for name in names)
    try:
        with tempfile.TemporaryDirectory(prefix=".written-", dir=folder) as scratch:
            parts = tuple(Path(scratch) / name for name in names)
            for part, content in zip(parts, (network.to_text().encode("ascii"), weights), strict=True):
                part.write_bytes(content)
            _check(network, parts)
            for part, file in zip(parts, files, strict=True):
                part.replace(file)
    except BaseException:  # an older pair of these names goes, too: it is not what was asked for
        for file in files:
            file.unlink(missing_ok=True)
        raise
    return files


def _check(network: ParamFile, files: tuple[Path, ...]) -> None:
    param, weights = files
    found = net.read_network(param)
    if found != network:
        raise ConversionError(f"{param.name} reads back as another network than was written; report this")
    for _ in walk_weights(found, weights.read_bytes()):
        pass  # it raises where the bytes do not fit the layers
    _compute(files)


def _compute(files: tuple[Path, ...]) -> None:
    try:
        loaded = net.LoadedNet(files, net.strict_fp32)
    except UsageError as error:
        raise ConversionError(f"ncnn does not load what was written: {error}") from error
    try:
        for name, values in loaded.run(loaded.ramp()).items():
            if not np.isfinite(values).all():
                raise ConversionError(f"ncnn computes numbers that are not finite in {name!r} of {files[0].name}")
    finally:
        loaded.close()
