"""What is to be measured, in plain values: files, shapes, limits. Whoever has a manifest makes a ``Job`` of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model: ``name`` as the model file has it, ``shape`` with its batch axis.

    Real numbers are (stored - ``zero_point``) * ``scale``.
    """

    name: str
    shape: tuple[int, ...]
    layout: str
    dtype: str = "float32"
    scale: float = 1.0
    zero_point: int = 0

    def as_real(self) -> Tensor:
        """The same tensor with its real numbers in float32."""
        return replace(self, dtype="float32", scale=1.0, zero_point=0)


@dataclass(frozen=True)
class ParityCase:
    """One verification frame, as raw little-endian files in the model's own layouts and types; the alpha is float32.

    ``inputs`` in the order of the job's inputs; ``alpha`` is what the original network makes of them.
    """

    name: str
    inputs: tuple[Path, ...]
    alpha: Path


@dataclass(frozen=True)
class ParityLimits:
    """How far the phone's alpha may be from the original's: largest and mean absolute difference, alpha in [0, 1]."""

    max_abs: float
    mad: float


@dataclass(frozen=True)
class Job:
    """One artifact to measure.

    Attributes:
        title: for people, as ``mmnet tflite-gpu-fp16``.
        artifact: where it lies, as the user gave it.
        runtime: ``tflite`` or ``ncnn``; chooses the runner.
        accelerator: ``cpu`` or ``gpu``: what has to do the work, or the measurement is refused.
        precision: ``fp32``, ``fp16`` or ``int8``.
        files: the model files; for ncnn ``.param`` and ``.bin``.
        sha256: of the file, or of the files' sha256 one after the other where there are several.
        inputs: in the model's order.
        output: the alpha.
        outputs: all of the file, in its order, the alpha among them; empty where that is the only one.
        macs: multiply-accumulates of one frame, 0 when unknown: a time that no chip can reach is then not noticed.
        cases: verification frames, empty when nobody made them.
        limits: for the cases.
    """

    title: str
    artifact: str
    runtime: str
    accelerator: str
    precision: str
    files: tuple[Path, ...]
    sha256: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    macs: int = 0
    cases: tuple[ParityCase, ...] = ()
    limits: ParityLimits | None = None
    outputs: tuple[Tensor, ...] = ()

    @property
    def all_outputs(self) -> tuple[Tensor, ...]:
        """What a frame leaves: the alpha, and new values of states where the network has some."""
        return self.outputs or (self.output,)
