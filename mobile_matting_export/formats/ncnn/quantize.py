"""Half weights: a ``.ncnn.bin`` of float32 rewritten with float16 where it saves something.

Small weights stay float32 (see ``SMALL_WEIGHT``), which helps where ncnn computes in fp32: trained
SegMattingNet's largest error on ``ncnn-cpu`` fell from 0.1104 to 0.0093 (41 photographs). With its fp16
options on ncnn rounds them itself: on a Vulkan device the alpha was that of all weights halved, bit for bit.
"""

from __future__ import annotations

import struct

import numpy as np

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import SMALL_WEIGHT
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile
from mobile_matting_export.formats.ncnn.walk_weights import FLOAT16_TAG, FLOAT32_TAG, REMEDY, Stored, walk_weights

HALF_MAX = 65504.0

_PADDING = b"\x83\x22"
"""Behind an odd number of halves; ncnn skips it, and pnnx writes these very bytes."""


def round_weights_to_half(network: ParamFile, weights: bytes, largest_float: int = SMALL_WEIGHT) -> bytes:
    """Return the ``.bin`` with its large tagged weights as float16, everything else bit for bit.

    Args:
        network: the ``.param`` to which ``weights`` belong.
        weights: content of a ``.bin`` whose tagged weights are float32, as pnnx writes it with ``fp16=0``.
        largest_float: tagged weights of at most so many elements stay float32.

    Weights are rounded to nearest, ties to even, below 2**-14 to float16's subnormals. (pnnx with ``fp16=1``
    rounds ties away from zero and writes 0 for everything below 2**-14; all else agrees bit for bit.)

    Raises:
        ConversionError: a layer type whose weights cannot be read, weights that are not float32, a file
            too short or too long for the network, or a weight beyond float16's 65504; names the layer.
    """
    return b"".join(half_if_large(stored, largest_float) for stored in walk_weights(network, weights))


def half_if_large(stored: Stored, largest_float: int = SMALL_WEIGHT) -> bytes:
    """Return the bytes of one block: float16 for a tagged weight of more than so many elements, else as they are.

    Raises:
        ConversionError: a tagged weight that is not float32, or reaches beyond float16's 65504; names the layer.
    """
    require_float32(stored)
    if stored.tag is not None and stored.block.count > largest_float:
        return _as_half(stored.data, stored.layer)
    return stored.raw


def require_float32(stored: Stored) -> None:
    """Refuse a tagged weight that is stored as anything but float32.

    Raises:
        ConversionError: names the layer.
    """
    if stored.tag not in (None, FLOAT32_TAG):
        raise ConversionError(
            f"the weights of layer {stored.layer.name!r} ({stored.layer.type}) are not float32 "
            f"(tag {stored.tag:#010x}); {REMEDY}"
        )


def _as_half(numbers: bytes, layer: Layer) -> bytes:
    values = np.frombuffer(numbers, "<f4")
    peak = float(np.abs(values).max())
    if not peak <= HALF_MAX:  # also true of NaN
        raise ConversionError(
            f"a weight of layer {layer.name!r} ({layer.type}) reaches {peak:g}, beyond fp16's 65504; convert to fp32"
        )
    halves = values.astype("<f2").tobytes()
    return struct.pack("<I", FLOAT16_TAG) + halves + _PADDING * (len(values) % 2)
