"""Choose a format's ways to compute in int8 that take and give numbers of the wanted type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobile_matting_export.errors import UsageError
from mobile_matting_export.network import InputKind
from mobile_matting_export.quantization.io_kind import IoKind
from mobile_matting_export.targets import Target

if TYPE_CHECKING:
    from mobile_matting_export.formats.format import Int8


def choose_int8_ways(target: Target, io: IoKind, picture: InputKind) -> tuple[Int8, ...]:
    """The ways of the target's format, the usual one first, that offer ``io``.

    Args:
        target: a row whose format computes in int8.
        io: of image and alpha (``--io``).
        picture: how it enters the file (``--input``).

    Raises:
        UsageError: none of them does, or ``io`` and ``picture`` contradict each other.
    """
    if picture == "uint8" and io == "int8":
        raise UsageError(
            "--io int8 and --input uint8 contradict each other: the image is either int8 or bytes; "
            "--io uint8 --input uint8 takes pixels as bytes and gives alpha as bytes"
        )
    if io == "float":
        return target.format.int8()
    found = tuple(way for way in target.format.int8() if way.quantize_ends is not None)
    if not found:
        raise UsageError(
            f"target {target.name} does not take --io {io}: the runtime of its files takes and gives float maps only; "
            "tflite-cpu offers it"
        )
    return found
