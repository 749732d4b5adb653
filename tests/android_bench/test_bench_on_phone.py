"""From connecting to the verdict: the real adb client, a fake phone, and a runner that prints the real format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_device import AS_BENCHNCNN, FakeDevice, make_measurable

from android_bench.errors import DeviceLost
from android_bench.gate import Budget, judge_results
from android_bench.job import Job, Tensor
from android_bench.measure import Plan
from android_bench.prepare import Settings
from android_bench.session import Request, bench

SAMPLES = Path(__file__).parent / "transcripts" / "phone"
RUNS = 20

# what benchncnn prints on stderr, and as long as it says; MS and FAULT are filled in
RUNNER = (
    """#!/bin/sh
param=${6#param=}
[ -f "$param" ] || { echo "fopen $param failed" >&2; exit 0; }
sleep @SECONDS
@FAULT
ms=@MS
"""
    + AS_BENCHNCNN
)


@pytest.fixture
def phone_device(device: FakeDevice) -> FakeDevice:
    """A fake phone in the state that a measurement wants."""
    make_measurable(device, SAMPLES)
    return device


@pytest.fixture
def run_bench(phone_device: FakeDevice, tmp_path: Path) -> Callable[..., Any]:
    def run(ms: float = 2.0, fault: str = "", launches: int = 5, clocks: str = "as-they-are") -> Any:
        runner = tmp_path / "benchncnn"
        runner.write_text(
            RUNNER.replace("@SECONDS", f"{ms * (RUNS + 8) / 1000:.3f}").replace("@MS", f"{ms}").replace("@FAULT", fault)
        )
        runner.chmod(0o755)
        files = (tmp_path / "net a;b.ncnn.param", tmp_path / "net a;b.ncnn.bin")
        files[0].write_text("7767517\n2 2\nInput image 0 1 image 0=48 1=64 2=3\n")
        files[1].write_bytes(b"\0" * 1000)
        job = Job(
            title="net ncnn-cpu-fp16",
            artifact="build/net/ncnn-cpu-fp16",
            runtime="ncnn",
            accelerator="cpu",
            precision="fp16",
            files=files,
            sha256="0" * 64,
            inputs=(Tensor("image", (1, 3, 64, 48), "NCHW"),),
            output=Tensor("alpha", (1, 1, 64, 48), "NCHW"),
        )
        request = Request(
            None,
            plan=Plan(launches=launches, cooldown_limit_s=0),
            budget=Budget(30.0),
            runner=runner,
            settings=Settings(runs=RUNS),
            clocks=clocks,
        )
        report, error = bench([job], request, lambda message: None)
        return report, error

    return run


def verdict(report: dict[str, Any]) -> tuple[str, int]:
    judged = judge_results(report["results"], Budget(30.0))
    return judged.verdict, judged.exit_code


@pytest.mark.parametrize(("ms", "expected"), [(4.0, ("pass", 0)), (36.0, ("fail", 5))])
def test_a_bench_from_start_to_verdict(
    run_bench: Callable[..., Any], phone_device: FakeDevice, ms: float, expected: tuple[str, int]
) -> None:
    report, error = run_bench(ms)
    assert error is None and verdict(report) == expected, report["gate"]
    assert report["device"]["model"] == "Tango [dual] 5G" and report["device"]["state_after"]["battery"]["level"] == 80
    assert report["results"][0]["latency_ms"]["p50"] == ms and len(report["results"][0]["launches"]) == 5
    assert phone_device.is_clean()


@pytest.mark.parametrize(
    "fault",
    [
        "kill -SEGV $$",
        "kill -KILL $$",
        "echo 'loop_count = 20' >&2; exit 0",  # cut off in the middle, and yet a status of 0
        "exit 3",
    ],
)
def test_a_runner_that_fails_passes_nothing(
    run_bench: Callable[..., Any], phone_device: FakeDevice, fault: str
) -> None:
    report, error = run_bench(fault=fault)
    assert error is None and verdict(report) == ("inconclusive", 7)
    assert report["results"][0]["latency_ms"] is None
    assert phone_device.is_clean()


def test_a_phone_that_is_lost_keeps_what_was_measured(run_bench: Callable[..., Any], phone_device: FakeDevice) -> None:
    phone_device.when_exists("data/local/tmp/mmx/run/third", phone_device.lose)
    fault = ': > "first$(ls first* 2>/dev/null | wc -l)"; [ -e first2 ] && { : > third; sleep 60; }'
    report, error = run_bench(fault=fault)
    assert type(error) is DeviceLost and error.exit_code == 6
    assert len([launch for launch in report["results"][0]["launches"] if "median_ms" in launch]) == 2
    assert verdict(report)[0] == "inconclusive"
    assert phone_device.is_clean()


def set_clocks(phone: FakeDevice, highest: int, allowed: int) -> None:
    """One cluster of one core, in kHz."""
    folder = phone.root / "sys/devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"related_cpus": 0, "cpuinfo_max_freq": highest, "scaling_max_freq": allowed, "scaling_cur_freq": 300_000}
    for name, value in told.items():
        (folder / name).write_text(f"{value}\n")
    # the fake phone's core 0 need not be one that this computer gives us
    phone.install("taskset", 'shift; exec "$@"')


def test_a_phone_whose_clocks_are_held_down_at_the_start_passes_nothing(
    run_bench: Callable[..., Any], phone_device: FakeDevice
) -> None:
    set_clocks(phone_device, 2_800_000, 1_500_000)
    report, error = run_bench(4.0)
    assert error is None and verdict(report) == ("inconclusive", 7)
    (result,) = report["results"]
    assert result["preconditions"] == ["clocks are held down: core 0 may run at 1.50 of 2.80 GHz"]
    assert result["latency_ms"]["p50"] == 4.0, "measured and told all the same"
    set_clocks(phone_device, 2_800_000, 2_800_000)
    assert verdict(run_bench(4.0)[0]) == ("pass", 0)


def test_fixed_performance_mode_holds_clocks_down_by_itself(
    run_bench: Callable[..., Any], phone_device: FakeDevice
) -> None:
    set_clocks(phone_device, 2_800_000, 1_500_000)
    report, _ = run_bench(4.0, clocks="fixed")
    assert report["results"][0]["preconditions"] == [] and verdict(report) == ("pass", 0)
    assert any("fixed-performance mode was on" in warning for warning in report["results"][0]["warnings"])
