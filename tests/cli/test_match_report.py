"""Latencies are found by the bytes that were measured, and what is of other bytes is told or refused."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from test_trade_off import make_artifact

from mobile_matting_export.cli.match_report import match_report, name_device
from mobile_matting_export.errors import UsageError

NOISE = (0.0, 0.2, -0.1, 0.1, -0.2, 0.3, -0.3)


def result(sha256: str, ms: float = 20.0, **changes: Any) -> dict[str, Any]:
    launches = [{"median_ms": ms + noise, "p90_ms": ms + noise + 1} for noise in NOISE]
    made = {"title": "net tflite-cpu-fp32", "sha256": sha256, "accelerator": "cpu", "accelerator_proved": True}
    return made | {"threads": 4, "launches": launches, "warnings": ["measured from adb shell"]} | changes


def report(*results: dict[str, Any]) -> dict[str, Any]:
    device = {"serial": "R5CX", "model": "Demo 8", "soc": "SM8550"}
    return {"schema": "mmexport.bench/1", "date": "2026-11-29", "device": device, "results": list(results)}


def files(letter: str) -> list[dict[str, Any]]:
    return [{"path": "net.tflite", "bytes": 1, "sha256": letter * 64}]


def test_a_result_is_found_by_its_sha256_under_whatever_title() -> None:
    notes: list[str] = []
    artifacts = [make_artifact("a"), make_artifact("b", files=files("b"))]
    found = match_report(
        report(result("b" * 64, 12.0, title="other"), result("a" * 64)), "bench.json", artifacts, notes.append
    )
    assert [one and (one.p50, one.p90, one.on, one.doubts) for one in found.latencies] == [
        (20.0, 21.0, "cpu x4", ()),
        (12.0, 13.0, "cpu x4", ()),
    ]
    assert (found.device, found.source, found.date) == ("Demo 8, serial R5CX, SM8550", "bench.json", "2026-11-29")
    assert found.remarks == ("measured from adb shell",) and not notes


def test_several_files_are_known_by_the_sum_of_their_sums() -> None:
    both = [{"path": name, "bytes": 1, "sha256": name * 64} for name in ("c", "d")]
    sha256 = hashlib.sha256(("c" * 64 + "d" * 64).encode()).hexdigest()
    found = match_report(report(result(sha256)), "bench.json", [make_artifact("a", files=both)], pytest.fail)
    assert found.latencies[0] is not None


def test_the_same_bytes_under_two_targets_keep_their_own_times() -> None:
    artifacts = [make_artifact("a"), make_artifact("b", target="tflite-gpu", accelerator="gpu")]
    gpu = result("a" * 64, 5.0, title="net tflite-gpu-fp32", accelerator="gpu")
    found = match_report(report(gpu, result("a" * 64)), "bench.json", artifacts, pytest.fail)
    assert [one and (one.p50, one.on) for one in found.latencies] == [(20.0, "cpu x4"), (5.0, "gpu x4")]


def test_a_time_on_the_own_accelerator_comes_before_one_of_the_own_title() -> None:
    gpu = result("a" * 64, 5.0, accelerator="gpu")
    found = match_report(
        report(gpu, result("a" * 64, title="net tflite-gpu-fp32")), "bench.json", [make_artifact("a")], pytest.fail
    )
    assert [one and (one.p50, one.on, one.doubts) for one in found.latencies] == [(20.0, "cpu x4", ())]


@pytest.mark.parametrize(("made_for", "ran"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_a_time_on_another_accelerator_is_in_doubt_and_noted(made_for: str, ran: str) -> None:
    notes: list[str] = []
    artifact = make_artifact("a", target=f"tflite-{made_for}", accelerator=made_for)
    other = result("a" * 64, 5.0, title=f"net tflite-{ran}-fp32", accelerator=ran)
    (latency,) = match_report(report(other), "bench.json", [artifact], notes.append).latencies
    assert latency is not None and (latency.p50, latency.on) == (5.0, f"{ran} x4")
    assert latency.doubts == (
        f"was timed on the {ran}, but is made for the {made_for}: this is not the time of its target",
    )
    assert notes == [f"bench.json: a {latency.doubts[0]}"]


def test_launches_without_frames_are_told_from_those_with() -> None:
    means = result("a" * 64, launches=[{"mean_ms": 20.0 + noise} for noise in NOISE])
    (latency,) = match_report(report(means), "bench.json", [make_artifact("a")], pytest.fail).latencies
    assert latency is not None and latency.p90_of == "launches"
    (latency,) = match_report(report(result("a" * 64)), "bench.json", [make_artifact("a")], pytest.fail).latencies
    assert latency is not None and latency.p90_of == "frames"


def test_what_is_missing_and_what_is_left_out_is_told() -> None:
    notes: list[str] = []
    artifacts = [make_artifact("a"), make_artifact("b", files=files("b"), precision="int8"), make_artifact("c")]
    old = result("e" * 64, title="net tflite-cpu-int8")
    found = match_report(report(result("a" * 64), old), "bench.json", artifacts, notes.append)
    assert found.latencies[1] is None and found.latencies[2] is not None
    assert notes == [
        "bench.json has no latency of b: the file of this name in it has other bytes",
        "left out of bench.json: net tflite-cpu-int8, whose files are none of those named",
    ]


def test_a_report_of_other_files_is_refused_though_the_title_is_the_same() -> None:
    with pytest.raises(UsageError, match=r"other files than those of a: it holds net tflite-cpu-fp32 \(sha256 eeee"):
        match_report(report(result("e" * 64)), "bench.json", [make_artifact("a")], pytest.fail)
    with pytest.raises(UsageError, match="it holds nothing"):
        match_report(report(), "bench.json", [make_artifact("a")], pytest.fail)


def test_a_time_that_cannot_be_defended_says_why_and_no_time_is_none() -> None:
    few = result("a" * 64)
    few["launches"] = few["launches"][:2]
    (latency,) = match_report(report(few), "bench.json", [make_artifact("a")], pytest.fail).latencies
    assert latency is not None and latency.doubts == ("2 launches of 7 gave a time",)
    lost = result("a" * 64, launches=None, latency_ms=None, lost="the cable went")
    (latency,) = match_report(report(lost), "bench.json", [make_artifact("a")], pytest.fail).latencies
    assert latency is not None and latency.p50 is None and "the cable went" in latency.doubts[0]


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ({"serial": "host", "model": "my-laptop", "soc": "A processor"}, "host, A processor"),
        ({"serial": "host", "model": "unknown", "soc": "unknown"}, "host"),
        ({"serial": "R5CX", "model": None}, "serial R5CX"),
        ({}, "unknown device"),
    ],
)
def test_a_device_is_called_by_what_is_known_of_it(device: dict[str, Any], name: str) -> None:
    assert name_device(device) == name
