"""8-bit ends are offered where a format writes them, and refused with the reason elsewhere."""

from __future__ import annotations

import pytest

from mobile_matting_export.choose_int8_ways import choose_int8_ways
from mobile_matting_export.errors import UsageError
from mobile_matting_export.quantization.io_kind import IoKind
from mobile_matting_export.targets import find_target


def test_float_ends_leave_every_way() -> None:
    for name in ("tflite-cpu", "ncnn-cpu"):
        target = find_target(name)
        assert choose_int8_ways(target, "float", "uint8") == target.format.int8()


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_8_bit_ends_leave_the_ways_that_round_maps(io: IoKind) -> None:
    assert [way.name for way in choose_int8_ways(find_target("tflite-cpu"), io, "float")] == ["static"]


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_ncnn_has_none(io: IoKind) -> None:
    with pytest.raises(UsageError, match=f"target ncnn-cpu does not take --io {io}: .*float maps only"):
        choose_int8_ways(find_target("ncnn-cpu"), io, "float")


def test_bytes_and_int8_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="--io int8 and --input uint8 contradict each other"):
        choose_int8_ways(find_target("tflite-cpu"), "int8", "uint8")
    assert choose_int8_ways(find_target("tflite-cpu"), "uint8", "uint8")
