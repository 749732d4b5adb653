"""Few bytes, the same content: constants aligned and inside, equal vectors once, nothing that says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from mobile_matting_export.formats.tflite.read_file import parse, read_file
from mobile_matting_export.formats.tflite.write_file import parse_whole, write_file

pytestmark = pytest.mark.toolchain


def constants(path: Path) -> dict[str, bytes]:
    """Tensor name -> its stored bytes, for the tensors that have any."""
    model = parse(path)
    stored = {tensor.name.decode(): model.buffers[tensor.buffer].data for tensor in model.subgraphs[0].tensors}
    return {name: bytes(data) for name, data in stored.items() if data is not None}


def places(path: Path) -> list[int]:
    """Where in the file each buffer's data begins."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    buffers = [model.Buffers(number) for number in range(model.BuffersLength())]
    return [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]


@pytest.fixture
def plain_file(small_file: Path, tmp_path: Path) -> Path:
    """As the runtime's own writer packs it, with a buffer for each tensor and one that nobody names."""
    model = parse(small_file)
    for tensor in model.subgraphs[0].tensors:
        tensor.quantization = schema.QuantizationParametersT()
        if tensor.buffer == 0:
            tensor.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
    unused = schema.BufferT()
    unused.data = np.arange(100, dtype=np.uint8)
    model.buffers.append(unused)
    path = tmp_path / "plain.tflite"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


def test_constants_keep_their_bytes_and_begin_at_multiples_of_16(plain_file: Path) -> None:
    before, content = read_file(plain_file), constants(plain_file)
    assert any(place % 16 for place in places(plain_file))
    write_file(parse_whole(plain_file), plain_file)
    assert content and constants(plain_file) == content
    assert read_file(plain_file) == before
    assert not any(place % 16 for place in places(plain_file))


def test_what_says_nothing_is_dropped(plain_file: Path) -> None:
    size = plain_file.stat().st_size
    write_file(parse_whole(plain_file), plain_file)
    model = parse(plain_file)
    assert sum(buffer.data is None for buffer in model.buffers) == 1
    assert all(tensor.quantization is None for tensor in model.subgraphs[0].tensors)
    assert plain_file.stat().st_size < size - 100


def test_equal_constants_are_stored_once(small_file: Path, tmp_path: Path) -> None:
    model = parse(small_file)
    for _ in range(2):
        entry = schema.MetadataT()
        entry.name, entry.buffer = b"note", len(model.buffers)
        model.metadata.append(entry)
        buffer = schema.BufferT()
        buffer.data = np.arange(1000, dtype=np.uint16).view(np.uint8)
        model.buffers.append(buffer)
    path = tmp_path / "twice.tflite"
    write_file(model, path)
    assert path.read_bytes().count(bytes(model.buffers[-1].data)) == 1
    read = parse(path)
    assert [bytes(read.buffers[entry.buffer].data) for entry in read.metadata[-2:]] == [bytes(buffer.data)] * 2


def test_constants_behind_the_flatbuffer_come_inside(small_file: Path, tmp_path: Path) -> None:
    content = constants(small_file)
    model = parse(small_file)
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    data = bytes(largest.data)
    largest.data, largest.offset, largest.size = None, 2, len(data)
    flat = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    largest.offset = len(flat)
    path = tmp_path / "behind.tflite"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)) + data)
    assert constants(path) != content
    write_file(parse_whole(path), path)
    assert constants(path) == content
    assert path.read_bytes() == small_file.read_bytes()


def test_quantization_with_numbers_stays(small_file: Path, tmp_path: Path) -> None:
    model = parse(small_file)
    scaled = schema.QuantizationParametersT()
    scaled.scale, scaled.zeroPoint = [0.5], [3]
    model.subgraphs[0].tensors[0].quantization = scaled
    path = tmp_path / "scaled.tflite"
    write_file(model, path)
    read = parse(path).subgraphs[0].tensors[0].quantization
    assert (read.scale.tolist(), read.zeroPoint.tolist()) == ([0.5], [3])
