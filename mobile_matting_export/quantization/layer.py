"""What a format says of one operation that it can compute in int8."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuantizableLayer:
    """One operation of a file.

    ``name`` is the file's own name of it, unique there and the same in every file made of one graph. ``module`` is the
    path of the PyTorch module it comes from, empty where nothing tells. ``kind`` is the format's type of operation.
    ``macs`` are multiply-accumulates of one frame; ``weight_bytes`` are what its weights take in float32; ``elements``
    are those of its output, which an operation without weights is paid by.
    """

    name: str
    module: str
    kind: str
    macs: int
    weight_bytes: int
    elements: int
