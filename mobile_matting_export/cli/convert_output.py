"""What ``mmexport convert`` prints of the artifacts it made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mobile_matting_export.artifact import Artifact


def list_details(artifacts: Sequence[Artifact]) -> Iterator[str]:
    """Sentences for ``-v``: where a rewrite did not apply and why, and what was decided."""
    for artifact in artifacts:
        for step in artifact.manifest["rewrites"]:
            for refusal in step["refusals"]:
                yield f"{artifact.title}: {step['name']}: {refusal}"
            for made in step["decisions"]:
                yield f"{artifact.title}: {step['name']}: {made['place']}: {made['taken']} of {made['costs']}"
        for note in artifact.manifest.get("notes", ()):
            yield f"{artifact.title}: {note}"


def summarize(artifact: Artifact) -> dict[str, Any]:
    """What ``--json`` says of one artifact."""
    manifest = artifact.manifest
    return {
        "folder": str(artifact.folder),
        "target": manifest["target"],
        "precision": manifest["precision"],
        "files": manifest["files"],
        "parity": manifest["parity"],
        "cost": {key: manifest["cost"][key] for key in ("params", "macs", "ops")},
        "warnings": manifest.get("warnings", []),
    } | _int8_of(manifest)


def _int8_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    if "quantization" not in manifest:
        return {}
    said = manifest["quantization"]
    kept = ("arithmetic", "ranges", "budget", "held_out", "layers_int8", "macs_int8", "fp32_bytes")
    return {"quantization": {key: said[key] for key in kept} | {"layers_float": len(said["layers_float"])}}


def tabulate(artifacts: Sequence[Artifact]) -> RenderableType:
    """The table for people, and a line for each artifact in int8."""
    from rich.console import Group
    from rich.table import Table

    from mobile_matting_export.report.int8_summary import summarize_int8

    table = Table("artifact", "size", "ops", "max error", "MAD", "verified on", box=None, pad_edge=False)
    for artifact in artifacts:
        manifest, parity = artifact.manifest, artifact.manifest["parity"]
        size = sum(entry["bytes"] for entry in manifest["files"])
        table.add_row(
            str(artifact.folder),
            f"{size / 1e6:.2f} MB",
            str(manifest["cost"]["ops"]),
            f"{parity['max_abs']:.1e}",
            f"{parity['mad']:.1e}",
            f"{parity['images']} pictures, {parity['device']}",
        )
    lines = [
        f"int8, on held-out pictures: {summarize_int8(one.manifest)}"
        for one in artifacts
        if "quantization" in one.manifest
    ]
    return Group(table, *lines)
