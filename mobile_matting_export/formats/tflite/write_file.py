"""Writes a TFLite flatbuffer in few bytes, its constants inside the flatbuffer and aligned as the schema asks.

``flatbuffer_utils`` of the runtime packs the same object into a valid file, but aligns constants to 4 bytes
where the schema says ``force_align: 16``, and writes every vector anew. Here equal vectors (shapes, paddings,
constants) are written once, which the flatbuffer format allows: readers follow offsets and see no difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from mobile_matting_export.formats.tflite.read_file import IDENTIFIER, parse

ALIGNMENT = 16
"""Of ``Buffer.data`` in the TFLite schema, in bytes from the start of the file."""


def parse_whole(path: Path) -> Any:
    """Return the schema's object of ``path`` as ``parse`` does, with every constant in it.

    ai-edge-quantizer puts constants *behind* the flatbuffer once they pass 256 kB; runtimes older than that
    extension, and tools that read the schema alone, do not find them there.

    Raises:
        UsageError: as ``parse``.
    """
    content = path.read_bytes()
    model = parse(path)
    for buffer in model.buffers:
        if _lies_behind(buffer):
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def write_file(model: Any, path: Path) -> None:
    """Write the schema's object ``model`` (``ModelT``, see ``read_file.parse``) to ``path``; same object, same bytes.

    Dropped is what says nothing: buffers without data but the first, which stands for "none" by convention,
    buffers that nothing names, and quantization without numbers.
    """
    _drop_empty_buffers(model)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None and _says_nothing(tensor.quantization):
                tensor.quantization = None
    builder = _SharingBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    path.write_bytes(bytes(builder.Output()))


def _lies_behind(buffer: Any) -> bool:
    return bool(buffer.offset > 1)


def _drop_empty_buffers(model: Any) -> None:
    """Point every tensor without data at buffer 0, number the others anew."""
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    entries = list(model.metadata or ())
    for tensor in tensors:
        if not _has_data(model.buffers[tensor.buffer]):
            tensor.buffer = 0
    used = sorted({0} | {entry.buffer for entry in [*tensors, *entries]})
    place = {buffer: number for number, buffer in enumerate(used)}
    model.buffers = [model.buffers[buffer] for buffer in used]
    for entry in [*tensors, *entries]:
        entry.buffer = place[entry.buffer]


def _has_data(buffer: Any) -> bool:
    return _lies_behind(buffer) or (buffer.data is not None and len(buffer.data) > 0)


def _says_nothing(quantization: Any) -> bool:
    numbers = (quantization.min, quantization.max, quantization.scale, quantization.zeroPoint)
    return quantization.details is None and all(value is None or len(value) == 0 for value in numbers)


class _SharingBuilder(flatbuffers.Builder):
    """Writes each distinct vector of numbers once; bytes, which hold the constants, begin at multiples of 16."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        """Return the offset of the one-dimensional ``x``, written as little endian."""
        little = np.ascontiguousarray(x, x.dtype.newbyteorder("<"))
        content = little.tobytes()
        key = (little.dtype.str, content)
        if key not in self._written:
            self.StartVector(little.itemsize, little.size, ALIGNMENT if little.dtype == np.uint8 else little.itemsize)
            self.head -= len(content)
            self.Bytes[self.head : self.head + len(content)] = content
            self.vectorNumElems = little.size
            self._written[key] = self.EndVector()
        return self._written[key]
