"""Two phones at once through the real adb client: a report each, and one that is lost takes nothing from the other."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_device import AS_BENCHNCNN, FakeDevice, make_measurable

from android_bench import bench_fleet as fleet
from android_bench.bench_fleet import Member, bench_fleet
from android_bench.errors import DeviceLost, NoDevice, RequestError
from android_bench.gate import Budget
from android_bench.job import Job, Tensor
from android_bench.judge_fleet import judge_fleet, judge_member
from android_bench.measure import Plan, Record
from android_bench.prepare import Prepared, Settings
from android_bench.report import build_result
from android_bench.runners import find_runner
from android_bench.runners.runner import Launch
from android_bench.session import Request
from mobile_matting_export.cli.main import run as mmexport

SAMPLES = Path(__file__).parent / "transcripts" / "phone"
BUDGET = Budget(30.0)
RUNS = 20
# as benchncnn prints; it begins only when both phones have begun, or after 20 s
RUNNER = (
    """#!/bin/sh
: > "@MEET/$(basename "$ROOT")"
tries=0
while [ "$(ls "@MEET" | wc -l)" -lt 2 ] && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
[ $tries -lt 200 ] || exit 3
[ -e "$ROOT/fatal" ] && { : > "$ROOT/reached"; sleep 60; }
ms=$(cat "$ROOT/ms")
sleep "$(cat "$ROOT/seconds")"
param=net
"""
    + AS_BENCHNCNN
)


@pytest.fixture
def two_phones(make_device: Callable[..., FakeDevice]) -> list[FakeDevice]:
    """Phones fit to be measured, of 4 and 5 ms."""
    phones = [make_device(), make_device()]
    for phone, ms in zip(phones, (4, 5), strict=True):
        make_measurable(phone, SAMPLES)
        set_speed(phone, ms)
    return phones


def set_speed(phone: FakeDevice, ms: float) -> None:
    (phone.root / "ms").write_text(f"{ms}")
    (phone.root / "seconds").write_text(f"{ms * (RUNS + 8) / 1000:.3f}")


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    (tmp_path / "meet").mkdir()
    path = tmp_path / "benchncnn"
    path.write_text(RUNNER.replace("@MEET", str(tmp_path / "meet")))
    path.chmod(0o755)
    return path


@pytest.fixture
def job(tmp_path: Path) -> Job:
    files = (tmp_path / "net.ncnn.param", tmp_path / "net.ncnn.bin")
    files[0].write_text("7767517\n2 2\nInput image 0 1 image 0=48 1=64 2=3\n")
    files[1].write_bytes(b"\0" * 1000)
    tensors = {"inputs": (Tensor("image", (1, 3, 64, 48), "NCHW"),), "output": Tensor("alpha", (1, 1, 64, 48), "NCHW")}
    named = {"title": "net ncnn-cpu-fp16", "artifact": "build/net/ncnn-cpu-fp16", "sha256": "0" * 64}
    return Job(runtime="ncnn", accelerator="cpu", precision="fp16", files=files, **named, **tensors)


def request(serial: str, runner: Path) -> Request:
    plan = Plan(launches=5, cooldown_limit_s=0)
    return Request(serial, plan=plan, budget=BUDGET, runner=runner, settings=Settings(runs=RUNS))


def test_phones_are_measured_at_the_same_time_and_each_has_its_report(
    two_phones: list[FakeDevice], runner: Path, job: Job
) -> None:
    said: list[str] = []
    kept: list[Member] = []
    requests = [request(phone.address, runner) for phone in two_phones]
    # the runner refuses to go on until it runs on both phones
    members = bench_fleet([job], requests, said.append, kept.append)
    assert [member.serial for member in members] == [phone.address for phone in two_phones]
    results = [member.report["results"][0] for member in members if member.report]
    assert [result["latency_ms"]["p50"] for result in results] == [4.0, 5.0]
    assert sorted(kept, key=lambda member: member.serial) == sorted(members, key=lambda member: member.serial)
    assert all(sum(line.startswith(f"{phone.address}: ") for line in said) >= 5 for phone in two_phones)
    assert judge_fleet([judge_member(member, BUDGET) for member in members]).exit_code == 0
    assert all(phone.is_clean() for phone in two_phones)


def test_a_lost_phone_takes_nothing_from_the_other(two_phones: list[FakeDevice], runner: Path, job: Job) -> None:
    well, lost = two_phones
    (lost.root / "fatal").touch()
    lost.when_exists("reached", lost.lose)
    requests = [request(phone.address, runner) for phone in two_phones]
    first, second = bench_fleet([job], requests, lambda message: None, lambda member: None)
    assert first.error is None and first.report["gate"]["verdict"] == "pass"
    assert type(second.error) is DeviceLost and second.report["results"][0]["lost"]
    verdict = judge_fleet([judge_member(member, BUDGET) for member in (first, second)])
    assert verdict.exit_code == 6 and all(lost.address in reason for reason in verdict.reasons)
    assert well.is_clean() and lost.is_clean()


def test_a_phone_that_is_not_there_has_a_report_that_passes_nothing(server: str, runner: Path, job: Job) -> None:
    kept: list[Member] = []
    (member,) = bench_fleet([job], [request("R5CX", runner)], lambda message: None, kept.append)
    assert type(member.error) is NoDevice and kept == [member]
    assert member.report["device"]["serial"] == "R5CX" and member.report["device"]["model"] == "unknown"
    assert "no device R5CX" in member.report["results"][0]["lost"]
    assert member.report["gate"]["verdict"] == "inconclusive"
    assert judge_member(member, BUDGET).outcome == "lost"
    (result,) = member.report["results"]
    launch = Launch(program=(), files=(), scratch="", threads=1)
    reached = build_result(Record(Prepared(job, find_runner("ncnn"), launch)), Plan(launches=5), None, [])
    gate = {"gate": result["gate"], "lost": result["lost"]}
    assert result == reached | {"runner": None} | gate, "the fields of a phone that was reached, nothing in them"
    assert result["accelerator_proved"] is False and result["launches"] == [] and result["latency_ms"] is None


def test_what_cannot_be_is_no_report_and_a_defect_comes_after_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def bench(jobs: Any, asked: Request, announce: Any) -> Any:
        if asked.serial == "broken":
            raise ZeroDivisionError("defect")
        if asked.serial == "wrong":
            raise RequestError("no runner")
        return {"device": {"serial": asked.serial}, "results": []}, None

    monkeypatch.setattr(fleet, "bench", bench)
    kept: list[Member] = []
    with pytest.raises(ZeroDivisionError):
        bench_fleet([], [Request(name) for name in ("broken", "wrong", "well")], lambda message: None, kept.append)
    assert {member.serial: member.report is None for member in kept} == {"wrong": True, "well": False}
    wrong = next(member for member in kept if member.report is None)
    assert judge_fleet([judge_member(wrong, BUDGET)]).exit_code == 2


def test_a_stop_reaches_the_threads_and_keeps_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def bench(jobs: Any, asked: Request, announce: Any) -> Any:
        if asked.serial == "done":
            return {"device": {"serial": "done"}, "results": []}, None
        try:
            while True:
                announce("launch")
        finally:
            stopped.set()

    def keep(member: Member) -> None:
        raise KeyboardInterrupt  # as a signal does in the caller's thread

    monkeypatch.setattr(fleet, "bench", bench)
    with pytest.raises(KeyboardInterrupt):
        bench_fleet([], [Request("done"), Request("slow")], lambda message: None, keep)
    assert stopped.wait(timeout=5)


def test_all_devices_on_the_command_line(
    two_phones: list[FakeDevice],
    runner: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable in [name for name in os.environ if name.startswith("MMEXPORT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "build" / "net" / "ncnn-cpu-fp16"
    write_artifact(folder)
    set_speed(two_phones[1], 50)
    flags = ["--min-fps", "30", "--runner", str(runner), "--launches", "5", "--runs", str(RUNS), "--threads", "1"]
    flags += ["--cooldown", "0", "--report", "reports", "--markdown", "r.md", "--junit", "r.xml", "--json", "-q"]
    assert mmexport(["bench", "--all-devices", *flags]) == 5
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["schema"] == "mmexport.fleet/1" and told["outcome"] == "fail"
    by_serial = {entry["serial"]: entry for entry in told["devices"]}
    assert set(by_serial) == {phone.address for phone in two_phones}
    outcomes = {row[0]["p50"]: row[0]["outcome"] for row in told["matrix"]["cells"]}
    assert outcomes == {4.0: "pass", 50.0: "fail"}
    for entry in by_serial.values():
        assert json.loads(Path(entry["file"]).read_text()) == entry["report"]
        assert ":" not in entry["file"] and entry["file"].startswith("reports/")
    text = Path("r.md").read_text()
    assert "| p90 and verdict | net ncnn-cpu-fp16 |" in text and "50.00 ms FAIL |" in text
    assert Path("r.xml").read_text().count("<testsuite ") == 2 and "fail" in err
    assert mmexport(["gate", *(entry["file"] for entry in by_serial.values()), "--min-fps", "30", "-q"]) == 5


def write_artifact(folder: Path) -> None:
    """A folder as convert writes it; what matters here is that bench takes it."""
    folder.mkdir(parents=True)
    (folder / "net.param").write_text("7767517\n2 2\nInput image 0 1 image 0=48 1=64 2=3\n")
    (folder / "net.bin").write_bytes(b"")
    tensor = {"layout": "NCHW", "dtype": "float32", "shape": [1, 3, 64, 48]}
    manifest = {
        "schema": "mmexport.manifest/1",
        "network": {"name": "net"},
        "target": "ncnn-cpu",
        "precision": "fp16",
        "accelerator": "cpu",
        "inputs": [tensor | {"name": "image"}],
        "outputs": [tensor | {"name": "alpha"}],
        "files": [
            {"path": name, "bytes": 0, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
            for name in ("net.param", "net.bin")
        ],
        "parity": {"max_abs": 0.01, "mad": 0.001, "limits": {"max_abs": 0.1, "mad": 0.002}},
        "cost": {"params": 0, "macs": 9216, "ops": 1},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
