"""The pipeline: load, capture, rewrite, lower, verify, write. Readable from top to bottom."""

from __future__ import annotations

import contextlib
import copy
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
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
from mobile_matting_export.artifact_key import artifact_key, references_state
from mobile_matting_export.errors import QualityError
from mobile_matting_export.fingerprint import contract_state, digest, graph_state, network_state
from mobile_matting_export.formats.format import SMALL_WEIGHT, ExportGraph
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.lower_once import Lowering, lower_once
from mobile_matting_export.manifest import Lowered, build_manifest
from mobile_matting_export.network import InputKind, LoadedNetwork, bake_normalization
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.parity import Case, Verdict, compare_graphs, judge_files, make_cases
from mobile_matting_export.predict_hazards import describe_hazards
from mobile_matting_export.report.artifact_report import write_artifact_report
from mobile_matting_export.require_acceleration import require_gpu
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.rewrites.rewrite import Rewrite, Step, apply_rewrites
from mobile_matting_export.second_opinion import emit_by_onnx2tf, require_onnx2tf
from mobile_matting_export.targets import Limits, Target, choose_precision, find_target, require_input

# the ledger measures every step on these; the artifact itself is verified on all cases
_PROBES = 2
# fields of a job that decide neither bytes nor verdict, or have a part of the key of their own
_NO_OPTIONS = ("targets", "output", "precision", "images", "overwrite", "cache")

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What to make of one network. None means: the target's own default.

    ``precision``, ``max_error`` and ``max_mad`` hold for every target; ``backend`` is the
    converter for TFLite targets. ``fallback`` says whether a tflite-gpu file may leave operations to the CPU.
    ``input`` says how pictures enter the files. ``overwrite`` says which existing output folders may be replaced.
    With a ``cache`` an artifact made and verified before from the same inputs is taken from there.
    """

    targets: Sequence[Target]
    output: Path
    precision: str | None = None
    max_error: float | None = None
    max_mad: float | None = None
    images: Path | None = None
    backend: str = "litert-torch"
    overwrite: Literal["ours", "anything"] = "ours"
    cache: ResultCache | None = None
    input: InputKind = "float"
    fallback: Literal["refuse", "allow"] = "refuse"


@one_thread()
def convert_network(network: LoadedNetwork, job: Job, announce: Announce = lambda message: None) -> list[Artifact]:
    """Make one verified artifact per target, each under ``job.output / network / target-precision``.

    Args:
        network: loaded with its weights.
        job: targets and options.
        announce: called with a short sentence as each step starts.

    Raises:
        UsageError: a precision no target of the job offers, an input one refuses, an unwritable output.
        ConversionError: capture, a rewrite, or a converter failed, or an operation would leave the GPU.
        QualityError: an artifact missed its limits; nothing is left at its output path.
    """
    for target in job.targets:
        require_input(target, job.input)
    network = bake_normalization(network, job.input)
    plans = [(target, choose_precision(target, job.precision)) for target in job.targets]
    folders = [output_folder(job.output, network, target, precision) for target, precision in plans]
    for folder in folders:
        if job.overwrite == "ours":
            require_replaceable(folder)
        require_writable(folder)
    if job.backend == "onnx2tf":
        require_onnx2tf()
    with _shared_lowering(job) as cache:
        prepared = _Prepared(network, job, announce)
        return [
            _make_artifact(prepared, cache, target, precision, folder)
            for (target, precision), folder in zip(plans, folders, strict=True)
        ]


def output_folder(output: Path, network: LoadedNetwork, target: Target, precision: str) -> Path:
    """``output/<network>/<target>-<precision>``."""
    return output / network.spec.name / f"{target.name}-{precision}"


@contextlib.contextmanager
def _shared_lowering(job: Job) -> Iterator[ResultCache | None]:
    """Where targets of this call find what others of it lowered: the job's cache, or one for this call only."""
    if job.cache is not None or len(job.targets) < 2:
        yield job.cache
        return
    with tempfile.TemporaryDirectory(prefix="mmexport-lowered-", ignore_cleanup_errors=True) as folder:
        yield ResultCache(Path(folder))


class _Prepared:
    """What targets share, each made when it is first needed: frames, the captured graph, graphs by their rewrites."""

    def __init__(self, network: LoadedNetwork, job: Job, announce: Announce) -> None:
        self.network, self.job, self.announce = network, job, announce
        self.done: dict[tuple[Rewrite, ...], tuple[fx.GraphModule, tuple[Step, ...]]] = {}

    @functools.cached_property
    def cases(self) -> tuple[Case, ...]:
        return make_cases(self.network, self.job.images)

    @functools.cached_property
    def graph(self) -> fx.GraphModule:
        self.announce(f"capturing {self.network.spec.name}")
        return capture(self.network.module, self.network.examples())

    @functools.cached_property
    def state(self) -> str:
        """The network as text for a key; one whose code may be anything is told by its graph and its results."""
        known = network_state(self.network)
        return known or digest(contract_state(self.network), graph_state(self.graph), references_state(self.cases))

    def for_target(self, target: Target) -> tuple[fx.GraphModule, tuple[Step, ...]]:
        # the second opinion goes through ONNX, which has no TFLite operators
        row = find_target("onnx").rewrites if self.job.backend == "onnx2tf" else target.rewrites
        if row not in self.done:
            probes = [tuple(torch.from_numpy(v) for v in case.inputs.values()) for case in self.cases[:_PROBES]]
            graph = self.graph
            self.announce(f"rewriting for {target.name}")
            self.done[row] = apply_rewrites(graph, row, probes)
        return self.done[row]

    def key(self, target: Target, precision: str) -> str | None:
        if self.job.cache is None:
            return None
        options = {one.name: getattr(self.job, one.name) for one in fields(self.job) if one.name not in _NO_OPTIONS}
        return artifact_key(target, precision, self.job.images, options, self.state)


def _make_artifact(
    prepared: _Prepared, cache: ResultCache | None, target: Target, precision: str, folder: Path
) -> Artifact:
    network, job, announce = prepared.network, prepared.job, prepared.announce
    key = prepared.key(target, precision)
    height, width = network.size
    stem = f"{network.spec.name}_{height}x{width}_{precision}"
    with _nothing_left_on_a_miss(folder), written_atomically(folder) as scratch:
        if job.cache is not None and key is not None and job.cache.fetch(key, scratch):
            announce(f"{target.name} {precision}: made and verified before from the same inputs, from the cache")
        else:
            _fill(prepared, cache, target, precision, scratch, stem)
            if job.cache is not None and key is not None:
                job.cache.keep(key, {file.name: file for file in sorted(scratch.iterdir())})
        announce(f"writing {folder}")
    artifact = read_artifact(folder)
    for warning in artifact.manifest.get("warnings", ()):  # from the cache, too
        announce(f"warning: {warning}")
    return artifact


def _fill(
    prepared: _Prepared, cache: ResultCache | None, target: Target, precision: str, scratch: Path, stem: str
) -> None:
    """Write model files, manifest and report into ``scratch``, verified."""
    network, job, announce = prepared.network, prepared.job, prepared.announce
    cases, (module, ledger) = prepared.cases, prepared.for_target(target)
    announce(f"lowering to {target.name} {precision}")
    graph = ExportGraph(module, network.examples(), network.byte_inputs)
    files = lower_once(cache, _lowering(target, job.backend), graph, precision, scratch, stem)
    if target.name == "tflite-gpu" and job.fallback == "refuse":
        require_gpu(files[0])
    backend = job.backend if target.format.name == "tflite" else target.format.name
    lowered = Lowered(target, precision, backend, prepared.graph, module, ledger, files)
    announce(f"verifying {target.name} {precision} on {len(cases)} pictures")
    verdict, mattes = _judge(lowered, cases, _limits(target, precision, job), announce)
    if not verdict.passed:
        raise QualityError(_blame(network, lowered, cases, verdict))
    manifest = build_manifest(network, lowered, verdict)
    if target.name == "tflite-gpu":
        hazards = describe_hazards(files[0], [case.inputs for case in cases[:_PROBES]])
        manifest["warnings"] = [] if hazards is None else [hazards]
    write_json(scratch / "manifest.json", manifest)
    write_artifact_report(scratch / "report.html", manifest, cases, mattes)


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


def _lowering(target: Target, backend: str) -> Lowering:
    if backend == "onnx2tf":
        return Lowering(backend, emit_by_onnx2tf)
    return Lowering(target.format.name, target.format.emit, target.format.narrow)


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
