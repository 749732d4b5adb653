"""What `inspect` says of a file: its operations, who computes each, why not, how much memory. Plain values.

Readers of formats make ``Graph``, the delegate rules make ``Verdict``, the pipeline puts both into one
``Inspection``; printing and pages come after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

SCHEMA = "mmexport.inspection/1"


@dataclass(frozen=True)
class Tensor:
    """One value of a graph: a runtime tensor, or a constant that the file stores.

    ``shape`` is in the file's own layout (TFLite: batch first, channels last; ncnn: channels x height x
    width), None where the file does not tell it. ``dtype`` is the format's name, as ``FLOAT32``.
    ``values`` are the numbers of a small constant (axes, paddings, a scale), flat; None for a weight.
    ``scales`` are the quantization scales: none for a float tensor, one per tensor, else one per channel.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    constant: bool = False
    values: tuple[float, ...] | None = None
    scales: tuple[float, ...] = ()

    @property
    def rank(self) -> int:
        """Number of axes; 0 where the shape is unknown."""
        return len(self.shape or ())


@dataclass(frozen=True)
class Op:
    """One operation, in the order of execution.

    ``inputs`` and ``outputs`` index the graph's tensors, -1 for an absent optional input. ``options`` are
    the format's own settings. ``macs`` are multiply-accumulates, None where a shape is unknown.
    ``module`` is the path of the PyTorch module it came from, empty where the file does not tell.
    """

    number: int
    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    macs: int | None = None
    module: str = ""


@dataclass(frozen=True)
class Graph:
    """A file's main graph. ``format`` is ``tflite`` or ``ncnn``; ``notes`` are what a reader must know of it."""

    format: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def inputs_of(self, op: Op) -> tuple[Tensor, ...]:
        """The tensors that ``op`` reads, without absent optional ones."""
        return tuple(self.tensors[index] for index in op.inputs if index >= 0)

    def outputs_of(self, op: Op) -> tuple[Tensor, ...]:
        """The tensors that ``op`` writes."""
        return tuple(self.tensors[index] for index in op.outputs if index >= 0)

    def consumers(self, tensor: int) -> tuple[Op, ...]:
        """The operations that read tensor number ``tensor``."""
        return self._consumers.get(tensor, ())

    @cached_property
    def _consumers(self) -> dict[int, tuple[Op, ...]]:
        found: dict[int, list[Op]] = {}
        for op in self.ops:
            for index in dict.fromkeys(op.inputs):
                found.setdefault(index, []).append(op)
        return {index: tuple(ops) for index, ops in found.items()}

    @cached_property
    def producers(self) -> dict[int, Op]:
        """Tensor number -> the operation that writes it."""
        return {index: op for op in self.ops for index in op.outputs}


@dataclass(frozen=True)
class Verdict:
    """Whether a backend computes one operation.

    ``reason`` is the backend's own message where it has one, ``means`` the same in plain words,
    ``remedy`` the rewrite or change of the network that removes the cause; all empty for a taken operation.
    ``fatal`` says that the whole delegate fails to start, where else only this operation stays on the CPU.
    """

    taken: bool
    reason: str = ""
    means: str = ""
    remedy: str = ""
    fatal: bool = False


TAKEN = Verdict(taken=True)


@dataclass(frozen=True)
class Part:
    """Consecutive work of one place: operation numbers, on the accelerator or on the CPU."""

    taken: bool
    ops: tuple[int, ...]


@dataclass(frozen=True)
class BackendReport:
    """One backend's view of a graph: a verdict for each operation, and the parts it falls into.

    ``outcome`` is ``full``, ``partial``, ``none``, or ``fails`` when an operation keeps the whole delegate
    from starting. ``accelerated`` numbers the operations that really run there: a GPU delegate takes its
    largest part only. ``caveat`` says what all of it is worth where a part of the file is missing.
    """

    name: str
    title: str
    rules: str
    outcome: str
    verdicts: tuple[Verdict, ...]
    parts: tuple[Part, ...]
    accelerated: int
    caveat: str = ""

    @property
    def refused(self) -> tuple[int, ...]:
        """Numbers of the operations that the backend does not take."""
        return tuple(number for number, verdict in enumerate(self.verdicts) if not verdict.taken)


@dataclass(frozen=True)
class Memory:
    """Peak memory of the tensors between operations, in bytes; ``how`` says how it was found.

    ``at`` is the number of the operation at which it peaks; ``unknown`` says why there is no figure.
    """

    peak_bytes: int | None
    at: int | None
    how: str
    unknown: str = ""


@dataclass(frozen=True)
class Times:
    """Milliseconds of process CPU time on this machine, one thread: of each operation, and of a whole frame.

    ``ms`` is empty where it was not measured; ``why_not`` then says why.
    """

    ms: tuple[float, ...] = ()
    whole_ms: float | None = None
    why_not: str = ""

    def share(self, number: int) -> float:
        """The share of operation ``number`` in the time of all operations."""
        return self.ms[number] / sum(self.ms)


@dataclass(frozen=True)
class Remark:
    """Something worth knowing of operations that do run: which ones, what it costs, how to get rid of it."""

    ops: tuple[int, ...]
    says: str
    remedy: str


@dataclass(frozen=True)
class Hazard:
    """A number format's danger at one operation, with the figure that shows it.

    ``kind`` is the rule's id, as ``SUM_OVERFLOW``; ``where`` names the backends it bites; ``evidence`` gives
    the measured values by name.
    """

    op: int
    kind: str
    where: str
    says: str
    remedy: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Inspection:
    """Everything `inspect` found in one file (ncnn: a pair of files). ``times`` is None where nobody asked."""

    title: str
    files: tuple[str, ...]
    bytes: int
    graph: Graph
    backends: tuple[BackendReport, ...]
    memory: Memory
    remarks: tuple[Remark, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    times: Times | None = None

    def share_of_macs(self, op: Op) -> float:
        """The share of ``op`` in the multiply-accumulates that are known; 0 where none are."""
        total = sum(other.macs or 0 for other in self.graph.ops)
        return (op.macs or 0) / total if total else 0.0

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints, schema mmexport.inspection/1."""
        graph = self.graph
        return {
            "schema": SCHEMA,
            "title": self.title,
            "files": list(self.files),
            "bytes": self.bytes,
            "format": graph.format,
            "notes": list(graph.notes),
            "inputs": [_describe(graph.tensors[index]) for index in graph.inputs],
            "outputs": [_describe(graph.tensors[index]) for index in graph.outputs],
            "macs": sum(op.macs for op in graph.ops if op.macs is not None),
            "memory": asdict(self.memory),
            "times": None if self.times is None else {"whole_ms": self.times.whole_ms, "why_not": self.times.why_not},
            "backends": [_summarize(backend) for backend in self.backends],
            "remarks": [asdict(remark) for remark in self.remarks],
            "hazards": [asdict(hazard) for hazard in self.hazards],
            "ops": [self._op_to_json(op) for op in graph.ops],
        }

    def _op_to_json(self, op: Op) -> dict[str, Any]:
        verdicts = {backend.name: backend.verdicts[op.number] for backend in self.backends}
        return {
            "number": op.number,
            "type": op.kind,
            "version": op.version,
            "module": op.module,
            "macs": op.macs,
            "ms": self.times.ms[op.number] if self.times is not None and self.times.ms else None,
            "inputs": [_describe(tensor) for tensor in self.graph.inputs_of(op)],
            "outputs": [_describe(tensor) for tensor in self.graph.outputs_of(op)],
            "verdicts": {name: asdict(verdict) for name, verdict in verdicts.items()},
        }


def _summarize(backend: BackendReport) -> dict[str, Any]:
    return {
        "name": backend.name,
        "title": backend.title,
        "rules": backend.rules,
        "outcome": backend.outcome,
        "ops": len(backend.verdicts),
        "taken": len(backend.verdicts) - len(backend.refused),
        "accelerated": backend.accelerated,
        "refused": list(backend.refused),
        "caveat": backend.caveat,
        "parts": [asdict(part) for part in backend.parts],
    }


def _describe(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": None if tensor.shape is None else list(tensor.shape),
        "dtype": tensor.dtype,
        "constant": tensor.constant,
    }
