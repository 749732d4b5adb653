"""A whole bench through the real adb client: runner and model pushed, launched, read, judged; and runners that fail.

The phone is fake and its runner a shell script that prints what the real ones print.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_device import FakeDevice

from android_bench.errors import RequestError
from android_bench.gate import Budget, judge_results
from android_bench.job import Job, ParityCase, ParityLimits, Tensor
from android_bench.measure import Plan
from android_bench.prepare import Settings
from android_bench.session import Request, bench

TRANSCRIPTS = Path(__file__).resolve().parent.parent / "transcripts"
SHAPE = (1, 8, 6, 1)
ALPHA = np.linspace(0, 1, 48, dtype=np.float32).reshape(SHAPE)
BUDGET = Budget(30)
# finds the values of its flags, keeps a count of launches, and does what the test adds
STUB = """#!/bin/sh
for word in "$@"; do case $word in
  --graph=*) graph=${{word#*=}};; --output_filepath=*) alpha=${{word#*=}};;
  --result_file_path=*) result=${{word#*=}};;
esac; done
[ -s "$graph" ] || {{ echo "ERROR: Failed to load model $graph"; exit 1; }}
echo x >> "$(dirname "$0")/launched"
[ -n "$alpha" ] && cp "{alpha}" "$alpha"
{body}
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    model = tmp_path / "a b;reboot.tflite"
    model.write_bytes(b"TFL3 model")
    picture, alpha = tmp_path / "picture.raw", tmp_path / "alpha.raw"
    np.zeros((1, 8, 6, 3), np.float32).tofile(picture)
    ALPHA.tofile(alpha)
    return Job(
        title="net tflite-gpu-fp16",
        artifact="build/net/tflite-gpu-fp16",
        runtime="tflite",
        accelerator="gpu",
        precision="fp16",
        files=(model,),
        sha256="0" * 64,
        inputs=(Tensor("matte_image", (1, 8, 6, 3), "NHWC"),),
        output=Tensor("alpha", SHAPE, "NHWC"),
        cases=(ParityCase("a.jpg", (picture,), alpha),),
        limits=ParityLimits(0.1, 0.002),
    )


@pytest.fixture
def run(device: FakeDevice, job: Job, server: str, tmp_path: Path) -> Callable[..., Any]:
    def run(body: str, *jobs: Job, alpha: np.ndarray = ALPHA) -> Any:
        alpha.astype("<f4").tofile(tmp_path / "made.raw")
        runner = tmp_path / "benchmark_model"
        runner.write_text(STUB.format(alpha=tmp_path / "made.raw", body=body))
        runner.chmod(0o755)
        request = Request(
            serial=device.address,
            plan=Plan(launches=5, cooldown_limit_s=0),
            budget=BUDGET,
            runner=runner,
            adb_server=server,
            settings=Settings(seconds=0.1, warmup_s=0.1),
        )
        return bench(jobs or (job,), request, lambda message: None)

    return run


def cat(name: str) -> str:
    return f'cat "{TRANSCRIPTS / "tflite" / name}"'


def test_a_gpu_bench_passes_with_its_proof_and_its_alpha(run: Callable[..., Any], device: FakeDevice) -> None:
    report, error = run(cat("new_gpu_full.txt"))
    (result,) = report["results"]
    assert error is None and report["gate"]["verdict"] == "pass", report["gate"]
    assert [launch["median_ms"] for launch in result["launches"]] == [14.402] * 5
    assert result["accelerator_proved"] and "completely executed" in result["proof"]
    assert result["parity"]["passed"] and result["parity"]["max_abs"] == 0
    assert result["launches"][0]["source"] == "text" and report["device"]["serial"] == device.address
    assert any("adb shell" in warning for warning in result["warnings"])
    assert device.is_clean()


def test_the_result_file_is_pulled_and_preferred(run: Callable[..., Any], job: Job) -> None:
    body = f'cp "{TRANSCRIPTS / "tflite" / "result.pb"}" "$result"; {cat("legacy_cpu.txt")}'
    report, _ = run(body, replace(job, accelerator="cpu", cases=()))
    (launch, *_) = report["results"][0]["launches"]
    assert launch["source"] == "result file" and launch["median_ms"] == pytest.approx(29.402)


def test_a_gpu_that_computes_garbage_fails_however_fast(run: Callable[..., Any]) -> None:
    report, _ = run(cat("new_gpu_full.txt"), alpha=1 - ALPHA)
    verdict = judge_results(report["results"], BUDGET)
    assert verdict.exit_code == 4 and report["results"][0]["parity"]["max_abs"] == 1
    assert report["gate"]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (cat("new_gpu_none.txt"), "cpu-instead-of-gpu"),
        (cat("new_gpu_partial.txt"), "partial-delegation"),
        (f"{cat('gpu_required_but_partial.txt')}; exit 1", "cpu-fallback"),
        (cat("new_cpu.txt"), "gpu-not-proved"),
        (cat("truncated.txt"), "truncated-output"),
        ("echo INFO: STARTING; kill -s SEGV $$", "crashed"),
        ("echo INFO: STARTING; kill -s KILL $$", "crashed"),
        ("echo ERROR: no such flag; exit 1", "failed"),
        (f'printf "\\\\022\\\\062" > "$result"; {cat("new_gpu_full.txt")}', "damaged-result-file"),
    ],
)
def test_a_runner_that_measured_something_else_is_refused_by_name(
    run: Callable[..., Any], device: FakeDevice, job: Job, body: str, name: str
) -> None:
    report, error = run(body, replace(job, cases=()))
    (result,) = report["results"]
    assert error is None and [entry["name"] for entry in result["refusals"]] == [name]
    assert len(result["launches"]) == 1 and report["gate"]["verdict"] == "inconclusive"
    assert judge_results(report["results"], BUDGET).exit_code == 7
    assert device.is_clean()


def test_a_phone_lost_in_the_middle_leaves_a_report(run: Callable[..., Any], device: FakeDevice, job: Job) -> None:
    lose = f'[ "$(wc -l < "$(dirname "$0")/launched")" -ge 3 ] && {{ touch "{device.root}/now"; sleep 30; }}'

    def pull_the_cable() -> None:
        while not (device.root / "now").exists():
            time.sleep(0.05)
        device.lose()

    thread = threading.Thread(target=pull_the_cable, daemon=True)
    thread.start()
    report, error = run(f"{lose}\n{cat('new_gpu_full.txt')}", replace(job, cases=()))
    thread.join(timeout=30)
    assert error is not None and error.exit_code == 6
    assert len(report["results"][0]["launches"]) == 2 and report["results"][0]["lost"]
    assert judge_results(report["results"], BUDGET).exit_code == 6


def test_one_binary_cannot_run_two_runtimes(run: Callable[..., Any], job: Job) -> None:
    with pytest.raises(RequestError, match="one program"):
        run(cat("new_cpu.txt"), job, replace(job, runtime="ncnn"))
