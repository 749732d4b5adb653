"""Artifacts become jobs of android_bench: what the manifest says, in plain values; torch only for frames."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_matting_export.artifact import MANIFEST, Artifact, read_artifact
from mobile_matting_export.errors import UsageError

if TYPE_CHECKING:
    from android_bench.job import Job, ParityCase, Tensor

RUNTIMES = ("tflite", "ncnn")


def find_artifacts(named: Sequence[str], output: Path) -> tuple[list[Artifact], list[str]]:
    """The artifacts named, else all under the output folder that a phone runner takes; and what was left out.

    Raises:
        UsageError: one is no artifact, none is there, or the one named has no runner.
    """
    if named:
        artifacts = [read_artifact(Path(path)) for path in named]
        for artifact in artifacts:
            if runtime_of(artifact) not in RUNTIMES:
                raise UsageError(
                    f"{artifact.title} cannot be benched: there is no phone runner for {runtime_of(artifact)}, "
                    f"only for {' and '.join(RUNTIMES)}"
                )
        return artifacts, []
    found = [read_artifact(path) for path in sorted(output.glob(f"*/*/{MANIFEST}"))]
    taken = [artifact for artifact in found if runtime_of(artifact) in RUNTIMES]
    if not taken:
        raise UsageError(f"no artifact under {output}: `mmexport convert` makes one, or name its folder")
    left = [
        f"{artifact.title}: no phone runner for {runtime_of(artifact)}" for artifact in found if artifact not in taken
    ]
    return taken, left


def make_job(artifact: Artifact, accelerator: str | None) -> Job:
    """What is to be measured of an artifact; ``accelerator`` None is the artifact's own.

    Raises:
        UsageError: the manifest lacks what a job needs.
    """
    from android_bench.job import Job, ParityLimits

    manifest, runtime = artifact.manifest, runtime_of(artifact)
    try:
        limits = manifest["parity"]["limits"]
        return Job(
            title=artifact.title,
            artifact=str(artifact.folder),
            runtime=runtime,
            accelerator=accelerator or manifest["accelerator"],
            precision=manifest["precision"],
            files=artifact.files,
            sha256=files_sha256(manifest),
            inputs=tuple(_tensor(entry, name) for entry, name in _named(artifact, runtime)),
            output=_tensor(manifest["outputs"][0], manifest["outputs"][0]["name"]),
            # the alpha is first in the manifest and in the file; both have the new values of states behind it
            outputs=tuple(_tensor(entry, entry["name"]) for entry in manifest["outputs"]),
            macs=int(manifest["cost"]["macs"]),
            limits=ParityLimits(limits["max_abs"], limits["mad"]),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise UsageError(f"the manifest of {artifact.folder} lacks {error!s}: convert the network again") from error


def files_sha256(manifest: Mapping[str, Any]) -> str:
    """What a bench report calls an artifact's files by: the file's own sum, or that of several files' sums."""
    sums = [entry["sha256"] for entry in manifest["files"]]
    return str(sums[0]) if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def add_frames(artifact: Artifact, job: Job, folder: Path, announce: Callable[[str], None]) -> Job:
    """The job with the frames of ``verify`` and the original network's alpha of each, written to ``folder``.

    Raises:
        UsageError: torch is not installed, or the network or its weights are not found again.
    """
    from android_bench.job import ParityCase

    try:
        from mobile_matting_export.parity import make_cases
        from mobile_matting_export.verify import load_original
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed, which the original network needs") from error
    loaded = load_original(artifact, None, None)
    announce(f"running {loaded.spec.name} in PyTorch for the frames to compare with")
    cases: list[ParityCase] = []
    for number, case in enumerate(make_cases(loaded)):
        files = tuple(
            write_frame(folder / f"{number}-{place}.raw", value, tensor)
            for place, (value, tensor) in enumerate(zip(case.inputs.values(), job.inputs, strict=True))
        )
        cases.append(
            ParityCase(case.name, files, write_frame(folder / f"{number}-alpha.raw", case.alpha, job.output.as_real()))
        )
    return replace(job, cases=tuple(cases))


def write_frame(path: Path, nchw: Any, tensor: Tensor) -> Path:
    """Write a float32 1xCxHxW array as the raw numbers of ``tensor``, in its layout and type; returns ``path``."""
    import numpy as np

    from mobile_matting_export.formats.tflite.eight_bit import EightBit

    arranged = nchw.transpose(0, 2, 3, 1) if tensor.layout == "NHWC" else nchw
    if tensor.dtype != "float32":
        arranged = EightBit(np.dtype(tensor.dtype), tensor.scale, tensor.zero_point).store(arranged)
    arranged.astype(tensor.dtype).tofile(path)
    return path


def _named(artifact: Artifact, runtime: str) -> list[tuple[dict[str, Any], str]]:
    """The manifest's inputs with the names that the model file itself has for them."""
    inputs = artifact.manifest["inputs"]
    # TFLite calls its tensors <signature>_<argument>, ncnn its blobs as the manifest does
    return [(entry, f"matte_{entry['name']}" if runtime == "tflite" else entry["name"]) for entry in inputs]


def _tensor(entry: dict[str, Any], name: str) -> Tensor:
    from android_bench.job import Tensor

    stored = entry.get("quantization", {})
    scale, zero_point = float(stored.get("scale", 1)), int(stored.get("zero_point", 0))
    return Tensor(name, tuple(entry["shape"]), entry["layout"], entry["dtype"], scale, zero_point)


def runtime_of(artifact: Artifact) -> str:
    """``tflite``, ``ncnn``, ``onnx``: the first part of its target."""
    return str(artifact.manifest["target"]).partition("-")[0]
