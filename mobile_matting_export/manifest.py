"""Build manifest.json (schema mmexport.manifest/1) from what the pipeline measured."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import fx

from mobile_matting_export import __version__
from mobile_matting_export.artifact import SCHEMA, describe_files
from mobile_matting_export.formats.tflite import ONNX2TF_TOOLS
from mobile_matting_export.graph.cost import count_macs, count_parameters
from mobile_matting_export.network import LoadedNetwork, state_sha256
from mobile_matting_export.parity import Verdict
from mobile_matting_export.rewrites.rewrite import Decision, Step
from mobile_matting_export.targets import Target


@dataclass(frozen=True)
class Lowered:
    """The files of one target, and what they were made from: the captured graph, then the rewritten ``module``."""

    target: Target
    precision: str
    backend: str
    captured: fx.GraphModule
    module: fx.GraphModule
    ledger: Sequence[Step]
    files: tuple[Path, ...]


def build_manifest(network: LoadedNetwork, lowered: Lowered, verdict: Verdict) -> dict[str, Any]:
    """The manifest of one artifact; the same inputs give the same value."""
    target, module, files, stats = lowered.target, lowered.module, lowered.files, verdict.stats
    notes = target.notes(files) if target.notes else ()
    ends = target.format.read_ends(files) if target.format.read_ends else {}
    tools = ONNX2TF_TOOLS if lowered.backend == "onnx2tf" else target.format.tools
    ops = target.format.count_ops(files)
    checkpoint = network.checkpoint
    return {
        "schema": SCHEMA,
        "network": {
            "name": network.spec.name,
            "source": network.source,
            "params": sum(p.numel() for p in network.module.parameters()),
            "macs": count_macs(lowered.captured),
            "head": asdict(network.spec.head),
            "state_sha256": state_sha256(network.module),
            "checkpoint": {"file": checkpoint.file, "sha256": checkpoint.sha256} if checkpoint else None,
        },
        "target": target.name,
        "precision": lowered.precision,
        "accelerator": target.accelerator,
        "mode": verdict.mode,
        "backend": lowered.backend,
        "inputs": [{**tensor, **ends.get(tensor["name"], {})} for tensor in describe_inputs(network, target)],
        "outputs": [{**tensor, **ends.get(tensor["name"], {})} for tensor in describe_outputs(network, target)],
        "files": describe_files(files[0].parent, files),
        "rewrites": [
            {
                "name": step.name,
                "exact": step.exact,
                "changes": step.changes,
                "max_abs_error": step.max_abs_error,
                "refusals": list(step.refusals),
                "decisions": [_decision(decision) for decision in step.decisions],
            }
            for step in lowered.ledger
        ],
        "parity": {
            "images": stats.images,
            "max_abs": stats.max_abs,
            "mad": stats.mad,
            "psnr_db": None if math.isinf(stats.psnr_db) else stats.psnr_db,
            "worst": stats.worst,
            "device": verdict.device,
            "limits": {"max_abs": verdict.limits.max_abs, "mad": verdict.limits.mad},
            "passed": verdict.passed,
        }
        | ({"states": [asdict(state) for state in stats.states]} if stats.states else {}),
        "cost": {
            "params": count_parameters(module),
            "macs": count_macs(module),
            "ops": sum(ops.values()),
            "ops_by_type": dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        },
        "tools": {"python": platform.python_version(), "mmexport": __version__}
        | {name: metadata.version(name) for name in ("torch", *tools)},
    } | ({"notes": list(notes)} if notes else {})


def _decision(decision: Decision) -> dict[str, Any]:
    """What a rewrite weighed at one place; decisions by timing stand under ``autotune``."""
    return {
        "place": decision.place,
        "by": "counted",
        "unit": decision.unit,
        "costs": dict(decision.costs),
        "taken": decision.taken,
    }


def describe_inputs(network: LoadedNetwork, target: Target) -> list[dict[str, Any]]:
    """The picture as the file takes it, then states."""
    image, layout = network.spec.image, target.format.layout
    described = [
        _tensor("image", (1, 3, *network.size), layout)
        | {
            "color": image.color,
            "mean": list(image.mean),
            "scale": list(image.scale),
            "resize": image.resize,
            "fill": image.fill,
        }
    ]
    if network.baked is not None:  # what the file computes itself, for who wants the network again
        own = network.baked
        described[0] |= {"baked": {"color": own.color, "mean": list(own.mean), "scale": list(own.scale)}}
    for tensor in described:
        if tensor["name"] in network.byte_inputs:
            tensor["dtype"] = "uint8"
    for state in network.spec.state:
        tensor = _tensor(state.name, state.shape(network.size), layout)
        described.append(tensor | {"source": state.source, "initial": state.initial})
    return described


def describe_outputs(network: LoadedNetwork, target: Target) -> list[dict[str, Any]]:
    """Alpha, then the new values of states: inputs name them as their ``source``."""
    layout = target.format.layout
    returned = [state for state in network.spec.state if state.source != "alpha"]
    alpha = _tensor("alpha", (1, 1, *network.size), layout) | {"range": [0, 1]}
    return [alpha, *(_tensor(state.source, state.shape(network.size), layout) for state in returned)]


def _tensor(name: str, nchw: tuple[int, int, int, int], layout: str) -> dict[str, Any]:
    batch, channels, height, width = nchw
    shape = [batch, height, width, channels] if layout == "NHWC" else list(nchw)
    return {"name": name, "shape": shape, "layout": layout, "dtype": "float32"}
