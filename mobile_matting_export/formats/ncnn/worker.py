"""A child process that keeps one network on the GPU: a driver that crashes takes only the child along.

Runs as ``python -m mobile_matting_export.formats.ncnn.worker fp16|fp32 PARAM BIN`` and speaks frames over its
stdin and stdout: one byte of kind, eight bytes of length, then text or an ``.npz`` of named arrays.
First it says which device it uses, then it answers one frame of arrays with another until stdin ends.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.ncnn import net

ARRAYS, DEVICE, CONVERSION_ERROR, USAGE_ERROR = b"a", b"d", b"c", b"u"
_ERROR_KINDS = {ConversionError: CONVERSION_ERROR, UsageError: USAGE_ERROR}
_OPTIONS = {"fp16": (net.fp16_on_cpu, net.fp16_on_vulkan), "fp32": (net.strict_fp32, net.fp32_on_vulkan)}
_PREFIX = "blob_"
_HEAD = struct.Struct("<cQ")


def write_frame(stream: IO[bytes], kind: bytes, payload: bytes) -> None:
    """Write one frame and flush."""
    stream.write(_HEAD.pack(kind, len(payload)))
    stream.write(payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Return the next frame's kind and payload, or None when the stream ended, inside a frame or before."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack(head)
    payload = stream.read(length)
    return (kind, payload) if len(payload) == length else None


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return named arrays as the bytes of an uncompressed ``.npz``."""
    buffer = io.BytesIO()
    # the prefix keeps names apart from the function's own parameters
    np.savez(buffer, allow_pickle=False, **{_PREFIX + name: array for name, array in arrays.items()})
    return buffer.getvalue()


def unpack(payload: bytes) -> dict[str, np.ndarray]:
    """Return the named arrays in the bytes of an ``.npz``; never unpickles."""
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        return {name.removeprefix(_PREFIX): archive[name] for name in archive.files}


def main() -> None:
    """Load the network named by the arguments and serve it until stdin ends."""
    requests = sys.stdin.buffer
    # drivers print where they like: only frames may reach the real stdout
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        device, loaded = _load(sys.argv[1], tuple(Path(argument) for argument in sys.argv[2:]))
        write_frame(replies, DEVICE, device.encode())
    except (ConversionError, UsageError) as error:
        write_frame(replies, _ERROR_KINDS[type(error)], str(error).encode())
        return
    while (request := read_frame(requests)) is not None:
        try:
            write_frame(replies, ARRAYS, pack(loaded.run(unpack(request[1]))))
        except (ConversionError, UsageError) as error:
            write_frame(replies, _ERROR_KINDS[type(error)], str(error).encode())
    # no teardown: drivers are known to crash in it, and the process ends anyway
    os._exit(0)


def _load(arithmetic: str, files: tuple[Path, ...]) -> tuple[str, net.LoadedNet]:
    import ncnn

    on_cpu, on_vulkan = _OPTIONS[arithmetic]
    if ncnn.get_gpu_count() == 0:
        return f"cpu (no Vulkan device), {arithmetic} options", net.LoadedNet(files, on_cpu)
    name = ncnn.get_gpu_info(ncnn.get_default_gpu_index()).device_name()
    return f"vulkan: {name}, {arithmetic} arithmetic", net.LoadedNet(files, on_vulkan)


if __name__ == "__main__":
    main()
