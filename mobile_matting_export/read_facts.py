"""What a trade-off needs of an artifact's manifest, read in one place: a field that it lacks is told by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import UsageError
from mobile_matting_export.quantization.budget import Budget

# of the manifest's parity and quantization
_PARITY = ("max_abs", "mad", "psnr_db", "worst")
_INT8 = ("budget", "held_out", "macs_int8", "points")
# of a plan that the int8 search tried
_PLAN = ("float", "bytes", "macs_float", "mad_band", "psnr", "used", "chosen")
_PICTURE = ("color", "mean", "scale")


@dataclass(frozen=True)
class Int8Facts:
    """Of an int8 artifact: its quality budget, the share used on held-out pictures, the share of int8 multiply-adds.

    ``record`` is what the manifest says of the budget, the pictures held out, and the plans tried.
    """

    budget: str
    used: float | None
    macs: float
    record: Mapping[str, Any]


@dataclass(frozen=True)
class ArtifactFacts:
    """A manifest in plain values.

    Attributes:
        network: its name.
        source: the same, or a stranger's ``file.py:callable`` with the whole path of the file.
        state_sha256: of the weights, whatever file they came from.
        target: the row it was made for.
        precision: of its arithmetic.
        accelerator: ``cpu`` or ``gpu``, what it is made for.
        mode: the accelerator mode that it was verified in.
        limits: largest and mean absolute error of alpha that verification allowed.
        size: height and width of the picture.
        bytes: of all its files.
        parity: the error that was verified.
        int8: None for what is not int8.
        original: equal for two artifacts of one network that are compared with the same frames of it.
    """

    network: str
    source: str
    state_sha256: str
    target: str
    precision: str
    accelerator: str
    mode: str
    limits: tuple[float, float]
    size: tuple[int, int]
    bytes: int
    parity: Mapping[str, Any]
    int8: Int8Facts | None
    original: Hashable


def read_facts(artifact: Artifact) -> ArtifactFacts:
    """Read the manifest.

    Raises:
        UsageError: it lacks a field.
    """
    manifest = artifact.manifest
    try:
        network, parity = manifest["network"], manifest["parity"]
        image = manifest["inputs"][0]
        height, width = image["shape"][1:3] if image["layout"] == "NHWC" else image["shape"][2:4]
        if network["checkpoint"] is not None:
            _require(network["checkpoint"], ("file", "sha256"))
        return ArtifactFacts(
            network=str(network["name"]),
            source=_whole_path(str(network["source"])),
            state_sha256=str(network["state_sha256"]),
            target=str(manifest["target"]),
            precision=str(manifest["precision"]),
            accelerator=str(manifest["accelerator"]),
            mode=str(manifest["mode"]),
            limits=(parity["limits"]["max_abs"], parity["limits"]["mad"]),
            size=(height, width),
            bytes=sum(file["bytes"] for file in manifest["files"]),
            parity={name: parity[name] for name in _PARITY},
            int8=None if "quantization" not in manifest else _read_int8(manifest["quantization"]),
            original=(height, width, _frame(image), network["head"]["kind"], network["head"]["foreground"]),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"the manifest of {artifact.folder} lacks {error!s}: convert the network again") from error


def _frame(image: Mapping[str, Any]) -> Hashable:
    """How a picture becomes the network's input, also where the file computes a part of that itself."""
    own = tuple(str(image[name]) for name in (*_PICTURE, "resize", "fill"))
    if "baked" not in image:  # bytes of a quantized input are real numbers outside
        return own
    return own, tuple(str(image["baked"][name]) for name in _PICTURE), image["dtype"] == "uint8"


def _read_int8(found: Mapping[str, Any]) -> Int8Facts:
    for plan in found["points"]:
        _require(plan, _PLAN)
    record = {name: found[name] for name in _INT8}
    return Int8Facts(str(Budget(found["budget"])), found["held_out"]["used"], found["macs_int8"], record)


def _require(found: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if name not in found:
            raise KeyError(name)


def _whole_path(source: str) -> str:
    """One file under two paths is one source; the name of a known network stays."""
    file, callable_of_it, name = source.rpartition(".py:")
    return f"{Path(file + '.py').resolve()}:{name}" if callable_of_it else source
