"""Every recorded text of a runner is read as ``transcripts/expected.json`` says; a new one is a file and a row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from android_bench.gate import Budget, judge_result
from android_bench.job import Job
from android_bench.measure import Plan, Record, describe_launch
from android_bench.prepare import Prepared
from android_bench.report import build_result
from android_bench.runners import find_runner
from android_bench.runners.result_file import read_result
from android_bench.runners.runner import Launch, Measurement, Output, RunnerFailed

TRANSCRIPTS = Path(__file__).resolve().parent.parent / "transcripts"
EXPECTED: dict[str, dict[str, Any]] = json.loads((TRANSCRIPTS / "expected.json").read_text())
TEXTS = [name for name in EXPECTED if name.endswith(".txt")]
# field of a row -> (field of a Measurement, its unit in a millisecond)
FIELDS = {
    **{f"{name}_ms": (f"{name if name != 'avg' else 'mean'}_ms", 1) for name in ("avg", "min", "max", "init", "first")},
    **{
        f"{name}_us": (f"{name if name != 'avg' else 'mean'}_ms", 1000)
        for name in ("avg", "min", "max", "std", "median", "p5", "p95", "init", "first")
    },
}


@pytest.fixture
def read(
    make_job: Callable[..., Job], make_launch: Callable[..., Launch]
) -> Callable[[str], tuple[Prepared, Measurement]]:
    """The measurement in a text, with the launch that its flags say it was."""

    def read(name: str) -> tuple[Prepared, Measurement]:
        runner, expected, text = name.partition("/")[0], EXPECTED[name], (TRANSCRIPTS / name).read_text()
        on_gpu = "gpu" in name or "vulkan" in name
        runtime = "ncnn" if runner == "ncnn" else "tflite"
        # so many operations that 0.97 ms is beyond any phone, and 9 ms is not
        job = make_job(runtime=runtime, accelerator="gpu" if on_gpu else "cpu", macs=4_000_000_000)
        told = {key: int(value) for key, value in re.findall(r"^(loop_count|num_threads) = (\d+)$", text, re.M)}
        launch = make_launch(threads=told.get("num_threads", 4), runs=told.get("loop_count", 50))
        output = Output(expected.get("exit_status", 0), text, "")
        prepared = Prepared(job, find_runner(runtime, runner), launch)
        return prepared, prepared.runner.read(job, launch, output)

    return read


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "tflite/traps.txt"])
def test_a_recorded_text_is_read_as_expected(name: str, read: Callable[[str], tuple[Prepared, Measurement]]) -> None:
    expected = EXPECTED[name]
    try:
        prepared, measured = read(name)
    except RunnerFailed as failure:
        assert failure.name == expected["refused"]
        return
    assert [finding.name for finding in measured.refusals] == list(filter(None, [expected.get("refused")]))
    for key, (field, per_ms) in FIELDS.items():
        if key in expected:
            value = expected[key]
            assert getattr(measured, field) == (None if value is None else pytest.approx(value / per_ms)), key
    for key, field in {"count": "runs", "runs": "runs", "delegate_kernels": "kernels", "gpu_name": "gpu_name"}.items():
        if key in expected:
            assert getattr(measured, field) == expected[key], key
    if "delegate" in expected:
        assert measured.delegation == expected["delegate"]
    if "gpu_proved" in expected:
        assert bool(measured.proof and measured.gpu_name) == expected["gpu_proved"]
    if "cpu" in expected:
        assert [measured.cpu_kernels, measured.cpu_nodes, measured.graph_nodes] == expected["cpu"]
        record = Record(prepared, [describe_launch(measured)] * 7, [measured] * 7, list(measured.findings))
        result = build_result(record, Plan(), None, [])
        assert result["accelerator_proved"] == expected["proved"]
        assert (result["proof"] == "") == (result["cpu"]["kernels"] == "unknown")
        assert judge_result(result, Budget(10)).outcome == "pass", "a CPU that is not told of is a warning, no doubt"
        warned = {warning.partition(":")[0] for warning in result["warnings"]}
        assert ("cpu-kernels-unknown" in warned) == (expected["proved"] == "unknown")
        assert {name for name in warned if name.startswith("xnnpack")} == set(filter(None, [expected.get("warned")]))


def test_every_text_has_a_row() -> None:
    folders = ("litert", "ncnn", "tflite")
    found = {
        path.relative_to(TRANSCRIPTS).as_posix() for folder in folders for path in (TRANSCRIPTS / folder).iterdir()
    }
    assert found - {"tflite/traps.txt"} == set(EXPECTED)


def test_the_recorded_result_file_is_read_as_expected() -> None:
    expected = EXPECTED["tflite/result.pb"]
    result = read_result((TRANSCRIPTS / "tflite/result.pb").read_bytes())
    assert (result["name"], result["num_runs"], result["num_warmup_runs"]) == (
        *(expected["name"], expected["num_runs"], expected["num_warmup_runs"]),
    )
    for key in ("avg", "min", "max", "median", "p5", "p95", "init", "first"):
        assert result["latency"][key] == pytest.approx(expected[f"{key}_ms"]), key


def test_a_gpu_that_ran_where_the_cpu_was_asked_for_is_refused(
    make_job: Callable[..., Job], make_launch: Callable[..., Launch]
) -> None:
    text = (TRANSCRIPTS / "tflite/new_gpu_full.txt").read_text()
    measured = find_runner("tflite").read(make_job(), make_launch(), Output(0, text, ""))
    assert [finding.name for finding in measured.refusals] == ["gpu-instead-of-cpu"]
