"""Reads which inputs and outputs of a TFLite file are 8 bits wide, and what their numbers stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobile_matting_export.formats.tflite.read_file import parse, read_file

_EIGHT_BIT = ("INT8", "UINT8")


def read_ends(files: tuple[Path, ...]) -> dict[str, dict[str, Any]]:
    """Map each 8-bit input and output of the first signature to what a manifest says of it.

    Returns:
        Name -> ``dtype``, ``int8`` or ``uint8``, and ``quantization`` with ``scale`` and ``zero_point``:
        real = (stored - zero_point) * scale. Pixels as bytes, scale 1 and zero point 0, have no ``quantization``.

    Raises:
        UsageError: the file is missing, no TFLite file, or damaged.
    """
    file = read_file(files[0])
    tensors = parse(files[0]).subgraphs[0].tensors
    found: dict[str, dict[str, Any]] = {}
    for signature in file.signatures[:1]:
        for name, index in {**signature.inputs, **signature.outputs}.items():
            dtype = file.main.tensors[index].dtype
            if dtype not in _EIGHT_BIT:
                continue
            found[name] = {"dtype": dtype.lower()}
            stored = tensors[index].quantization
            scale, zero_point = float(stored.scale[0]), int(stored.zeroPoint[0])
            if (dtype, scale, zero_point) != ("UINT8", 1.0, 0):
                found[name]["quantization"] = {"scale": scale, "zero_point": zero_point}
    return found
