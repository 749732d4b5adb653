"""The trade-off between one network's artifacts: error, size, and latency on every device they were measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import UsageError
from mobile_matting_export.read_facts import ArtifactFacts, read_facts

if TYPE_CHECKING:  # only named here; it brings the whole toolchain
    from mobile_matting_export.score_artifact import Scored

P90_MEANS = {
    "frames": "p50: the median over launches of each one's median frame. p90: what 90 % of the frames keep, as the "
    "middle launch has it.",
    "launches": "Of launches: the runner does not tell what 90 % of a launch's frames keep. p50 and p90 are there the "
    "median and the 90th percentile over the launches, each one's mean frame (or its median, where the runner tells "
    "it).",
}
"""``Latency.p90_of`` -> what p50 and p90 then are."""

BUDGET_MEANS = (
    "The budget was held on other pictures: those held out when the file was converted, against the float network. "
    "Its share cannot be worked out from the errors in the same row."
)


@dataclass(frozen=True)
class Latency:
    """Of one artifact on one device, milliseconds a frame; None where no launch gave a time.

    ``on`` is what did the work, ``cpu x4``. ``p90_of`` is ``frames`` where p90 is what 90 % of the frames keep, and
    ``launches`` where the runner told nothing of them, see ``P90_MEANS``. ``doubts`` say why the time cannot be
    defended as this artifact's, none where it can.
    """

    p50: float | None
    p90: float | None
    on: str
    p90_of: str = "frames"
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeviceLatencies:
    """What one bench report says of the artifacts: ``latencies`` in their order, None for what it did not measure.

    ``source`` is its file, or says that it was measured just now; ``remarks`` are the report's own warnings.
    """

    device: str
    source: str
    date: str
    latencies: tuple[Latency | None, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArtifactRow:
    """An artifact under a short name; ``scored`` is None where it could not be compared, ``why`` says so."""

    label: str
    artifact: Artifact
    scored: Scored | None
    why: str = ""

    @cached_property
    def facts(self) -> ArtifactFacts:
        """Of its manifest."""
        return read_facts(self.artifact)


@dataclass(frozen=True)
class TradeOff:
    """All artifacts of ``network``, and what each report says of their latency."""

    network: str
    rows: tuple[ArtifactRow, ...]
    devices: tuple[DeviceLatencies, ...]

    @property
    def device_names(self) -> list[str]:
        """In the order of ``devices``; two reports of one device are told apart by their files' names, or paths."""
        names = [one.device for one in self.devices]
        short = [(one.device, Path(one.source).name) for one in self.devices]
        return [
            f"{one.device} ({file if short.count((one.device, file)) == 1 else one.source})"
            if names.count(one.device) > 1
            else one.device
            for one, (_, file) in zip(self.devices, short, strict=True)
        ]

    @property
    def about_sizes(self) -> str:
        """What errors leave out where the artifacts take pictures of different sizes; empty where they do not."""
        sizes = sorted({row.facts.size for row in self.rows}, reverse=True)
        if len(sizes) < 2:
            return ""
        listed = ", ".join(_size_words(size) for size in sizes[:-1])
        return (
            f"The artifacts take pictures of different sizes, {listed} and {_size_words(sizes[-1])}. Each error is "
            "against the network at the artifact's own size: it tells what the conversion costs, and not what a "
            "smaller size itself costs, however bad its mattes. That is told by mmexport fit, and by mmexport evaluate."
        )

    @property
    def p90_of(self) -> set[str]:
        """Of which kinds the latencies are: ``frames``, ``launches``, both, or none where nothing was timed."""
        timed = [one for device in self.devices for one in device.latencies if one is not None]
        return {one.p90_of for one in timed if one.p90 is not None}

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "network": self.network,
            "artifacts": [_describe(row) for row in self.rows],
            "latency": [asdict(one) for one in self.devices],
        }


def _describe(row: ArtifactRow) -> dict[str, Any]:
    facts, scored = row.facts, row.scored
    return {
        "artifact": str(row.artifact.folder),
        "label": row.label,
        "target": facts.target,
        "precision": facts.precision,
        "accelerator": facts.accelerator,
        "files": row.artifact.manifest["files"],
        "size": list(facts.size),
        "bytes": facts.bytes,
        "error": None
        if scored is None
        else {
            **{name: _number(value) for name, value in asdict(scored.score).items()},
            "frames": scored.frames,
            "device": scored.device,
        },
        "why_no_error": row.why,
        "parity": dict(facts.parity),
        "int8": None if facts.int8 is None else dict(facts.int8.record),
    }


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _size_words(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def require_one_network(artifacts: Sequence[Artifact]) -> str:
    """The name of the network that all were made from.

    Raises:
        UsageError: two networks, or two trainings of one: no size or error of one says anything of the other; or a
            manifest lacks a field.
    """
    first, *others = artifacts
    one, *facts = (read_facts(artifact) for artifact in artifacts)
    for other, two in zip(others, facts, strict=True):
        for what, this, that in (
            ("networks", one.network, two.network),
            ("sources", one.source, two.source),
            ("trainings (sha256 of the weights)", one.state_sha256[:12], two.state_sha256[:12]),
        ):
            if this != that:
                raise UsageError(
                    f"{first.folder} and {other.folder} are of two {what}, {this} and {that}: a trade-off is between "
                    "artifacts of one; name those"
                )
    return one.network


def label_artifacts(artifacts: Sequence[Artifact]) -> list[str]:
    """``tflite-cpu int8``, and behind it what tells artifacts apart.

    The input's size stands in each label as soon as two sizes differ, since it bears on latency and error; the budget
    and the folder only where labels are the same without.
    """
    all_facts = [read_facts(one) for one in artifacts]
    labels = [f"{facts.target} {facts.precision}" for facts in all_facts]
    if len({facts.size for facts in all_facts}) > 1:
        labels = [f"{label} {_size_words(facts.size)}" for label, facts in zip(labels, all_facts, strict=True)]
    for words in (
        ["" if facts.int8 is None else facts.int8.budget for facts in all_facts],
        [str(one.folder) for one in artifacts],
    ):
        told: dict[str, set[str]] = {}
        for label, word in zip(labels, words, strict=True):
            told.setdefault(label, set()).add(word)
        labels = [
            f"{label} {word}" if len(told[label]) > 1 else label for label, word in zip(labels, words, strict=True)
        ]
    return labels
