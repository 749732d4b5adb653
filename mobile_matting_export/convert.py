"""The pipeline: load, capture, rewrite, lower, verify, write. Readable from top to bottom."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import fx

from mobile_matting_export.artifact import (
    Artifact,
    read_artifact,
    require_replaceable,
    require_writable,
    write_json,
    written_atomically,
)
from mobile_matting_export.errors import QualityError
from mobile_matting_export.formats.format import SMALL_WEIGHT, ExportGraph
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.manifest import Lowered, build_manifest
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.parity import Case, Verdict, compare_graphs, judge_files, make_cases
from mobile_matting_export.report.artifact_report import write_artifact_report
from mobile_matting_export.rewrites.rewrite import Rewrite, Step, apply_rewrites
from mobile_matting_export.second_opinion import emit_by_onnx2tf, require_onnx2tf
from mobile_matting_export.targets import Limits, Target, choose_precision

# the ledger measures every step on these; the artifact itself is verified on all cases
_PROBES = 2

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What to make of one network. None means: the target's own default.

    ``precision``, ``max_error`` and ``max_mad`` hold for every target; ``backend`` is the
    converter for TFLite targets. ``overwrite`` says which existing output folders may be replaced.
    """

    targets: Sequence[Target]
    output: Path
    precision: str | None = None
    max_error: float | None = None
    max_mad: float | None = None
    images: Path | None = None
    backend: str = "litert-torch"
    overwrite: Literal["ours", "anything"] = "ours"


@one_thread()
def convert_network(network: LoadedNetwork, job: Job, announce: Announce = lambda message: None) -> list[Artifact]:
    """Make one verified artifact per target, each under ``job.output / network / target-precision``.

    Args:
        network: loaded with its weights.
        job: targets and options.
        announce: called with a short sentence as each step starts.

    Raises:
        UsageError: a precision no target of the job offers, an unwritable output.
        ConversionError: capture, a rewrite, or a converter failed.
        QualityError: an artifact missed its limits; nothing is left at its output path.
    """
    plans = [(target, choose_precision(target, job.precision)) for target in job.targets]
    folders = [output_folder(job.output, network, target, precision) for target, precision in plans]
    for folder in folders:
        if job.overwrite == "ours":
            require_replaceable(folder)
        require_writable(folder)
    if job.backend == "onnx2tf":
        require_onnx2tf()
    announce(f"capturing {network.spec.name}")
    cases = make_cases(network, job.images)
    graph = capture(network.module, network.examples())
    rewritten = _RewriteOnce(graph, cases, announce)
    return [
        _make_artifact(network, job, target, precision, folder, rewritten, cases, announce)
        for (target, precision), folder in zip(plans, folders, strict=True)
    ]


def output_folder(output: Path, network: LoadedNetwork, target: Target, precision: str) -> Path:
    """``output/<network>/<target>-<precision>``."""
    return output / network.spec.name / f"{target.name}-{precision}"


class _RewriteOnce:
    """Rewritten graphs by their tuple of rewrites: targets that share a row share the work."""

    def __init__(self, graph: fx.GraphModule, cases: Sequence[Case], announce: Announce) -> None:
        self.graph = graph
        self.announce = announce
        self.probes = [tuple(torch.from_numpy(v) for v in case.inputs.values()) for case in cases[:_PROBES]]
        self.done: dict[tuple[Rewrite, ...], tuple[fx.GraphModule, tuple[Step, ...]]] = {}

    def for_target(self, target: Target) -> tuple[fx.GraphModule, tuple[Step, ...]]:
        if target.rewrites not in self.done:
            self.announce(f"rewriting for {target.name}")
            self.done[target.rewrites] = apply_rewrites(self.graph, target.rewrites, self.probes)
        return self.done[target.rewrites]


def _make_artifact(
    network: LoadedNetwork,
    job: Job,
    target: Target,
    precision: str,
    folder: Path,
    rewritten: _RewriteOnce,
    cases: Sequence[Case],
    announce: Announce,
) -> Artifact:
    module, ledger = rewritten.for_target(target)
    height, width = network.size
    stem = f"{network.spec.name}_{height}x{width}_{precision}"
    with _nothing_left_on_a_miss(folder), written_atomically(folder) as scratch:
        announce(f"lowering to {target.name} {precision}")
        emit = _emitter(target, job.backend)
        files = emit(ExportGraph(module, network.examples()), precision, scratch, stem)
        backend = job.backend if target.format.name == "tflite" else target.format.name
        lowered = Lowered(target, precision, backend, rewritten.graph, module, ledger, files)
        announce(f"verifying {target.name} {precision} on {len(cases)} pictures")
        verdict, mattes = _judge(lowered, cases, _limits(target, precision, job), announce)
        if not verdict.passed:
            raise QualityError(_blame(network, lowered, cases, verdict))
        manifest = build_manifest(network, lowered, verdict)
        write_json(scratch / "manifest.json", manifest)
        write_artifact_report(scratch / "report.html", manifest, cases, mattes)
        announce(f"writing {folder}")
    return read_artifact(folder)


@contextlib.contextmanager
def _nothing_left_on_a_miss(folder: Path) -> Iterator[None]:
    """Remove an older artifact when the new one misses its limits: it would pass for the new one."""
    try:
        yield
    except QualityError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _judge(
    lowered: Lowered, cases: Sequence[Case], limits: Limits, announce: Announce
) -> tuple[Verdict, list[np.ndarray]]:
    """The verdict in the wanted accelerator mode, or in the cautious one where the wanted one misses."""
    target = lowered.target
    wanted, *cautious = target.modes(lowered.precision)
    verdict, mattes = judge_files(target.format, lowered.files, wanted, cases, limits)
    for mode in cautious:
        if verdict.passed:
            break
        announce(
            f"{target.name}: max error {verdict.stats.max_abs:.2g}, MAD {verdict.stats.mad:.2g} on {verdict.device} "
            f"miss the limits; verifying in mode {mode}"
        )
        verdict, mattes = judge_files(target.format, lowered.files, mode, cases, limits)
    return verdict, mattes


def _limits(target: Target, precision: str, job: Job) -> Limits:
    limits = target.limits[precision]
    if job.max_error is not None:
        limits = replace(limits, max_abs=job.max_error)
    return limits if job.max_mad is None else replace(limits, mad=job.max_mad)


def _emitter(target: Target, backend: str) -> Callable[[ExportGraph, str, Path, str], tuple[Path, ...]]:
    if backend == "onnx2tf":
        return emit_by_onnx2tf
    return target.format.emit


def _blame(network: LoadedNetwork, lowered: Lowered, cases: Sequence[Case], verdict: Verdict) -> str:
    """A sentence that names the first step after which the matte was out of its limits."""
    target, precision, stats, limits = lowered.target, lowered.precision, verdict.stats, verdict.limits
    missed = (
        f"{network.spec.name} for {target.name} {precision} is not the same matte: max error {stats.max_abs:.3g} "
        f"(limit {limits.max_abs:.3g}), MAD {stats.mad:.3g} (limit {limits.mad:.3g}), worst on {stats.worst}. "
    )
    if not compare_graphs(lowered.captured, cases).within(limits):
        return f"{missed}First broken by the capture, before any rewrite. No artifact is left at its output path."
    if not compare_graphs(lowered.module, cases).within(limits):
        guilty = next(
            (step for step in lowered.ledger if step.total_error > limits.max_abs),
            max(lowered.ledger, key=lambda step: step.max_abs_error),
        )
        return f"{missed}First broken by rewrite {guilty.name}. No artifact is left at its output path."
    if precision == "fp16":
        rounded = compare_graphs(_rounded_to_half(lowered.module), cases)
        if not rounded.within(limits):
            return (
                f"{missed}First broken by rounding the weights to fp16: with rounded weights PyTorch itself errs by "
                f"{rounded.max_abs:.3g}, MAD {rounded.mad:.3g}. Use --precision fp32, or accept it with "
                "--max-error and --max-mad. No artifact is left at its output path."
            )
    return (
        f"{missed}First broken by the lowering to {target.format.name}, after all rewrites. "
        "No artifact is left at its output path."
    )


def _rounded_to_half(module: fx.GraphModule) -> fx.GraphModule:
    rounded = copy.deepcopy(module)
    for tensor in rounded.buffers():
        if tensor.is_floating_point() and tensor.dim() > 1 and tensor.numel() > SMALL_WEIGHT:
            tensor.copy_(tensor.half().float())
    return rounded
