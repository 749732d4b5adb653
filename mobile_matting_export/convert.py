"""The pipeline: load, capture, rewrite, lower, verify, write. Readable from top to bottom."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.artifact import (
    Artifact,
    read_artifact,
    require_replaceable,
    require_writable,
    write_json,
    written_atomically,
)
from mobile_matting_export.autotune import TimedRow, autotune
from mobile_matting_export.blame import blame
from mobile_matting_export.choose_int8_ways import choose_int8_ways
from mobile_matting_export.collect_rarely import collect_rarely
from mobile_matting_export.describe_int8 import describe_int8, worst_held_out
from mobile_matting_export.errors import ConversionError, QualityError, UsageError
from mobile_matting_export.fingerprint import digest, pictures_state
from mobile_matting_export.graph.cost import count_macs
from mobile_matting_export.job import Job
from mobile_matting_export.lower_target import lower_target
from mobile_matting_export.make_int8 import Int8File, make_int8
from mobile_matting_export.manifest import Lowered, build_manifest, describe_inputs, describe_outputs
from mobile_matting_export.network import LoadedNetwork, bake_normalization
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.parity import Case, Verdict, judge_files
from mobile_matting_export.predict_hazards import describe_hazards
from mobile_matting_export.prepare_network import PROBES, Prepared
from mobile_matting_export.quantization.measure_stability import measure_stability
from mobile_matting_export.quantization.recipe import write_recipe
from mobile_matting_export.report.artifact_report import write_artifact_report
from mobile_matting_export.require_acceleration import require_gpu
from mobile_matting_export.result_cache import ResultCache
from mobile_matting_export.second_opinion import require_onnx2tf
from mobile_matting_export.targets import Limits, Target, choose_precision, require_input
from mobile_matting_export.time_forms import FormsToTime
from mobile_matting_export.vary_int8 import require_fitting


@collect_rarely()
@one_thread()
def convert_network(network: LoadedNetwork, job: Job, announce: Announce = lambda message: None) -> list[Artifact]:
    """Make one verified artifact per target, each under ``job.output / network / target-precision``.

    Args:
        network: loaded with its weights.
        job: targets and options.
        announce: called with a short sentence as each step starts.

    Raises:
        UsageError: a precision no target of the job offers, an input or 8-bit ends one refuses, an unwritable output.
        ConversionError: capture, a rewrite, or a converter failed, or an operation would leave the GPU.
        QualityError: an artifact missed its limits; nothing is left at its output path.
    """
    for target in job.targets:
        require_input(target, job.input)
    network = bake_normalization(network, job.input)
    plans = [(target, choose_precision(target, job.precision)) for target in job.targets]
    for target, precision in plans:
        if precision == "int8":
            choose_int8_ways(target, job.int8.wanted_io, job.input)
            if job.int8.recipe is not None:
                require_fitting(job.int8.recipe, network, target)
    folders = [output_folder(job.output, network, target, precision) for target, precision in plans]
    for folder in folders:
        if job.overwrite == "ours":
            require_replaceable(folder)
        require_writable(folder)
    if job.backend == "onnx2tf":
        require_onnx2tf()
    with _shared_lowering(job) as cache:
        prepared = Prepared(network, job, announce)
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


def _make_artifact(
    prepared: Prepared, cache: ResultCache | None, target: Target, precision: str, folder: Path
) -> Artifact:
    network, job, announce = prepared.network, prepared.job, prepared.announce
    tuned = _tune(prepared, cache, target, precision)
    key = prepared.key(target, precision, tuned)
    height, width = network.size
    stem = f"{network.spec.name}_{height}x{width}_{precision}"
    with _nothing_left_on_a_miss(folder), written_atomically(folder) as scratch:
        if job.cache is not None and key is not None and job.cache.fetch(key, scratch):
            announce(f"{target.name} {precision}: made and verified before from the same inputs, from the cache")
        else:
            _fill(prepared, cache, tuned, precision, scratch, stem)
            if job.cache is not None and key is not None:
                job.cache.keep(key, {file.name: file for file in sorted(scratch.iterdir())})
        announce(f"writing {folder}")
    artifact = read_artifact(folder)
    for warning in artifact.manifest.get("warnings", ()):  # from the cache, too
        announce(Part(f"warning: {warning}"))
    return artifact


def _tune(prepared: Prepared, cache: ResultCache | None, target: Target, precision: str) -> TimedRow:
    """The row with the forms that are fastest for this network, where the job times them."""
    network, job = prepared.network, prepared.job
    timer = job.form_timer
    if timer is None:
        return TimedRow(target)
    if precision == "int8":
        raise UsageError("--autotune times float forms: use it with fp32, fp16 or w8, not with int8")
    if not target.choices:
        prepared.announce(Part(f"warning: --autotune changes nothing for {target.name}, which has no other forms"))
        return TimedRow(target)
    limits = _limits(target, precision, job)

    def build(row: Target, folder: Path) -> tuple[Path, ...] | None:
        files = lower_target(prepared, cache, row, precision, folder, "form")
        try:
            _require_accelerator(row, files, job)
        except ConversionError:
            return None
        verdict, _ = _judge(row, precision, files, prepared.cases, limits, prepared.announce)
        return files if verdict.passed else None

    def time(row: Target, forms: Mapping[str, tuple[Path, ...]]) -> dict[str, list[float]]:
        ends = describe_inputs(network, row), describe_outputs(network, row)
        macs = count_macs(prepared.for_target(row)[0])
        return timer.time(FormsToTime(row, precision, forms, prepared.cases[0], *ends, macs), prepared.announce)

    options = (precision, job.backend, job.fallback, repr(limits), pictures_state(job.images))
    state = digest(prepared.state, *options, timer.where)
    return autotune(target, state, build, time, timer.unit, job.cache, prepared.announce)


def _require_accelerator(target: Target, files: tuple[Path, ...], job: Job) -> None:
    """Refuse files of which an operation would leave the GPU, where its delegates' rules are known."""
    if target.name == "tflite-gpu" and job.fallback == "refuse":
        require_gpu(files[0])


def _make_int8(prepared: Prepared, cache: ResultCache | None, target: Target, folder: Path, stem: str) -> Int8File:
    """The int8 files and how they came about; the recipe lies beside them."""
    limits = _limits(target, "int8", prepared.job)

    def verify(files: tuple[Path, ...]) -> bool:
        return judge_files(target.format, files, target.accelerator, prepared.cases, limits)[0].passed

    made = make_int8(
        prepared.network,
        target,
        prepared.job.int8,
        prepared.calibration,
        lambda row, place: (lower_target(prepared, cache, row, "fp32", place, stem), prepared.for_target(row)[0]),
        verify,
        folder,
        stem,
        cache,
        prepared.announce,
    )
    write_recipe(made.recipe, made.judge.layers, folder / "recipe.toml")
    return made


def _fill(
    prepared: Prepared, cache: ResultCache | None, tuned: TimedRow, precision: str, scratch: Path, stem: str
) -> None:
    """Write model files, manifest and report into ``scratch``, verified."""
    network, job, announce, target = prepared.network, prepared.job, prepared.announce, tuned.target
    cases, (module, ledger) = prepared.cases, prepared.for_target(target)
    announce(f"lowering to {target.name} {precision}")
    int8 = _make_int8(prepared, cache, target, scratch, stem) if precision == "int8" else None
    if int8 is None:
        files = lower_target(prepared, cache, target, precision, scratch, stem)
    else:
        files, target = int8.files, int8.target
        module, ledger = prepared.for_target(target)
    _require_accelerator(target, files, job)
    backend = job.backend if target.format.name == "tflite" else target.format.name
    lowered = Lowered(target, precision, backend, prepared.graph, module, ledger, files)
    announce(f"verifying {target.name} {precision} on {len(cases)} pictures")
    verdict, mattes = _judge(target, precision, files, cases, _limits(target, precision, job), announce)
    if not verdict.passed:
        raise QualityError(blame(network, lowered, cases, verdict))
    manifest = build_manifest(network, lowered, verdict) | ({"autotune": list(tuned.record)} if tuned.record else {})
    if target.name == "tflite-gpu":
        hazards = describe_hazards(files[0], [case.inputs for case in cases[:PROBES]])
        manifest["warnings"] = [] if hazards is None else [hazards]
    worst = None
    if int8 is not None:
        announce(Part("int8: flicker over a moving photograph"))
        stability = measure_stability(network, target.format, files)
        manifest["quantization"] = describe_int8(int8, prepared.calibration, job.int8.budget, stability)
        worst = worst_held_out(int8, prepared.calibration)
    write_json(scratch / "manifest.json", manifest)
    write_artifact_report(scratch / "report.html", manifest, cases, mattes, worst)


@contextlib.contextmanager
def _nothing_left_on_a_miss(folder: Path) -> Iterator[None]:
    """Remove an older artifact when the new one misses its limits: it would pass for the new one."""
    try:
        yield
    except QualityError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _judge(
    target: Target,
    precision: str,
    files: tuple[Path, ...],
    cases: Sequence[Case],
    limits: Limits,
    announce: Announce,
) -> tuple[Verdict, list[np.ndarray]]:
    """The verdict in the wanted accelerator mode, or in the cautious one where the wanted one misses."""
    wanted, *cautious = target.modes(precision)
    verdict, mattes = judge_files(target.format, files, wanted, cases, limits)
    for mode in cautious:
        if verdict.passed:
            break
        said = f"max error {verdict.stats.max_abs:.2g}, MAD {verdict.stats.mad:.2g} on {verdict.device}"
        announce(Part(f"{target.name}: {said} miss the limits; verifying in mode {mode}"))
        verdict, mattes = judge_files(target.format, files, mode, cases, limits)
    return verdict, mattes


def _limits(target: Target, precision: str, job: Job) -> Limits:
    limits = target.limits[precision]
    if job.max_error is not None:
        limits = replace(limits, max_abs=job.max_error)
    return limits if job.max_mad is None else replace(limits, mad=job.max_mad)
