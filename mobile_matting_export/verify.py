"""Verify an artifact after the fact: find its network and weights again, then compare."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mobile_matting_export.announce import Announce
from mobile_matting_export.artifact import Artifact, file_sha256
from mobile_matting_export.bundled import bundled_weights
from mobile_matting_export.errors import UsageError
from mobile_matting_export.matte import read_network_image_spec
from mobile_matting_export.network import LoadedNetwork, bake_normalization, load_network, state_sha256
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.parity import judge_files, make_cases
from mobile_matting_export.targets import Limits, find_target


@one_thread()
def verify_artifact(
    artifact: Artifact,
    images: Path | None = None,
    checkpoint: Path | None = None,
    network: str | None = None,
    announce: Announce = lambda message: None,
) -> dict[str, Any]:
    """Compare the artifact's alpha with the original network's on real pictures.

    Args:
        artifact: as read from disk.
        images: folder of pictures, None for the bundled samples.
        checkpoint: the weights, None to look where the manifest says.
        network: the user's ``file.py:callable``, None to take the manifest's.
        announce: called as each step begins.

    Returns:
        images, max_abs, mad, psnr_db (None when equal), worst, device, limits, passed.

    Raises:
        UsageError: the network or its weights are not found again, or differ.
    """
    manifest = artifact.manifest
    loaded = load_original(artifact, checkpoint, network)
    announce(f"running {loaded.spec.name} in PyTorch")
    cases = make_cases(loaded, images)
    target = find_target(manifest["target"])
    announce(f"running {artifact.title} on {len(cases)} pictures")
    recorded = manifest["parity"]["limits"]
    limits = Limits(recorded["max_abs"], recorded["mad"])
    verdict, _ = judge_files(target.format, artifact.files, manifest["mode"], cases, limits)
    stats = verdict.stats
    return {
        "artifact": str(artifact.folder),
        "images": stats.images,
        "max_abs": stats.max_abs,
        "mad": stats.mad,
        "psnr_db": None if math.isinf(stats.psnr_db) else stats.psnr_db,
        "worst": stats.worst,
        "device": verdict.device,
        "limits": recorded,
        "passed": verdict.passed,
    }


def load_original(artifact: Artifact, checkpoint: Path | None, network: str | None) -> LoadedNetwork:
    """The network that ``artifact`` was made from, with its weights, as its manifest says.

    Raises:
        UsageError: the network or its weights are not found again, or differ.
    """
    described, image = artifact.manifest["network"], artifact.manifest["inputs"][0]
    shape = image["shape"]
    size = (shape[1], shape[2]) if image["layout"] == "NHWC" else (shape[2], shape[3])
    weights = _find_weights(described, checkpoint)
    source = network or described["source"]
    head = described["head"]
    own = ".py:" in source
    loaded = load_network(
        source,
        weights,
        size,
        read_network_image_spec(artifact.manifest),
        head["kind"] if own else None,
        head["foreground"] if own else 1,
    )
    if state_sha256(loaded.module) != described["state_sha256"]:
        raise UsageError(
            f"the weights of {source} are not those this artifact was made from: does the callable draw new ones "
            "each time? Save them, and give the file with --checkpoint when converting"
        )
    if "baked" not in image:
        return loaded
    return bake_normalization(loaded, "uint8" if image["dtype"] == "uint8" else "pixels")


def _find_weights(described: dict[str, Any], given: Path | None) -> Path | None:
    """The file with the manifest's sha256: as given, bundled, or at the path used then."""
    recorded = described["checkpoint"]
    if recorded is None:
        return None
    places = [given] if given is not None else [bundled_weights(described["name"]), Path(recorded["file"])]
    found = [place for place in places if place is not None and place.is_file()]
    for place in found:
        if file_sha256(place) == recorded["sha256"]:
            return place
    if found:
        raise UsageError(
            f"{found[-1]} is not the checkpoint this artifact was made from (sha256 differs): "
            "give that one with --checkpoint, or convert again"
        )
    raise UsageError(
        f"the checkpoint {recorded['file']} this artifact was made from is not there: give it with --checkpoint"
    )
