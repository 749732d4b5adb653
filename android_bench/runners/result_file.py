"""Reads ``--result_file_path`` of benchmark_model: a BenchmarkResult message, by hand.

The message is four fields deep and has been stable; thirty lines spare a schema compiler and its runtime.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from android_bench.runners.runner import RunnerFailed

# field numbers of LiteRT's benchmark_result.proto
_LATENCY = ("avg", "min", "max", "stddev", "median", "p5", "p95", "init", "first", "warmup")  # 1.., float, ms


def read_result(data: bytes) -> dict[str, Any]:
    """Decode a result file.

    Returns:
        ``name`` (str), ``latency`` (field -> ms, absent fields left out), ``num_runs``, ``num_warmup_runs`` (int).

    Raises:
        RunnerFailed: truncated or another kind of file.
    """
    try:
        message = dict(_fields(data))
        latency = {
            _LATENCY[number - 1]: value
            for number, value in _fields(message[2])
            if 1 <= number <= len(_LATENCY) and isinstance(value, float)
        }
        misc = dict(_fields(message.get(4, b"")))
        return {
            "name": message.get(1, b"").decode(),
            "latency": latency,
            "num_runs": misc.get(2, 0),
            "num_warmup_runs": misc.get(3, 0),
        }
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise RunnerFailed(
            "damaged-result-file", f"the result file of the runner ({len(data)} bytes) is truncated or of another kind"
        ) from error


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value): int for varints, float for 32-bit fields, bytes for nested messages and strings."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind == 5:
            yield number, struct.unpack_from("<f", data, at)[0]
            at += 4
        elif kind == 1:
            yield number, struct.unpack_from("<d", data, at)[0]
            at += 8
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("truncated")
            yield number, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
