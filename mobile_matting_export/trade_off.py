"""The trade-off between one network's artifacts: error, size, and latency on every device they were measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import UsageError
from mobile_matting_export.quantization.budget import Budget

if TYPE_CHECKING:  # only named here; it brings the whole toolchain
    from mobile_matting_export.score_artifact import Scored

# of the manifest's quantization
_INT8 = ("budget", "held_out", "macs_int8", "points")


@dataclass(frozen=True)
class Latency:
    """Of one artifact on one device, milliseconds a frame; None where no launch gave a time.

    ``on`` is what did the work, ``cpu x4``; ``doubts`` say why the time cannot be defended, none where it can.
    """

    p50: float | None
    p90: float | None
    on: str
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clocked:
    """One bench report's part: ``latencies`` are in the order of the artifacts, None for what it did not measure.

    ``source`` is its file, or says that it was measured just now; ``remarks`` are the report's own warnings.
    """

    device: str
    source: str
    date: str
    latencies: tuple[Latency | None, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """An artifact under a short name; ``scored`` is None where the original network is not at hand, ``why`` says so."""

    label: str
    artifact: Artifact
    scored: Scored | None
    why: str = ""

    @property
    def bytes(self) -> int:
        """Of its model files."""
        return sum(file["bytes"] for file in self.artifact.manifest["files"])


@dataclass(frozen=True)
class TradeOff:
    """All artifacts of ``network``, and a ``Clocked`` for each report."""

    network: str
    entries: tuple[Entry, ...]
    clocked: tuple[Clocked, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "network": self.network,
            "artifacts": [_describe(entry) for entry in self.entries],
            "latency": [asdict(one) for one in self.clocked],
        }


def _describe(entry: Entry) -> dict[str, Any]:
    manifest, scored = entry.artifact.manifest, entry.scored
    found = manifest.get("quantization")
    return {
        "artifact": str(entry.artifact.folder),
        "label": entry.label,
        "target": manifest["target"],
        "precision": manifest["precision"],
        "files": manifest["files"],
        "bytes": entry.bytes,
        "error": None
        if scored is None
        else {
            **{name: _number(value) for name, value in asdict(scored.score).items()},
            "frames": scored.frames,
            "device": scored.device,
        },
        "why_no_error": entry.why,
        "parity": {name: manifest["parity"].get(name) for name in ("max_abs", "mad", "psnr_db", "worst")},
        "int8": None if found is None else {name: found[name] for name in _INT8},
    }


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_one_network(artifacts: Sequence[Artifact]) -> str:
    """The name of the network that all were made from.

    Raises:
        UsageError: two networks, or two trainings of one: no size or error of one says anything of the other.
    """
    first, *others = artifacts
    for other in others:
        for of, key in (("networks", "name"), ("checkpoints", "checkpoint")):
            one, two = (artifact.manifest["network"].get(key) for artifact in (first, other))
            if key == "checkpoint":
                one, two = (None if known is None else known["sha256"][:12] for known in (one, two))
            if one != two:
                raise UsageError(
                    f"{first.folder} and {other.folder} are of two {of}, {one} and {two}: a trade-off is between "
                    "artifacts of one; name those"
                )
    return str(first.manifest["network"]["name"])


def label_artifacts(artifacts: Sequence[Artifact]) -> list[str]:
    """``tflite-cpu int8``, and behind it what tells those of one label apart: the input's size, budget, or folder."""
    labels = [f"{one.manifest['target']} {one.manifest['precision']}" for one in artifacts]
    for more in (_input_size, _budget, lambda one: str(one.folder)):
        told: dict[str, set[str]] = {}
        for label, one in zip(labels, artifacts, strict=True):
            told.setdefault(label, set()).add(more(one))
        labels = [
            f"{label} {more(one)}" if len(told[label]) > 1 else label
            for label, one in zip(labels, artifacts, strict=True)
        ]
    return labels


def describe_budget(manifest: Mapping[str, Any]) -> str:
    """``mad_band=0.01,psnr=30``, empty for what is not int8."""
    found = manifest.get("quantization")
    return "" if found is None else str(Budget(found["budget"]))


def _budget(artifact: Artifact) -> str:
    return describe_budget(artifact.manifest)


def _input_size(artifact: Artifact) -> str:
    image = artifact.manifest["inputs"][0]
    height, width = image["shape"][1:3] if image["layout"] == "NHWC" else image["shape"][2:4]
    return f"{height}x{width}"
