"""``fit`` on a phone: the real adb client, a fake phone, a runner whose time grows with the size; only the
conversion is left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_device import AS_BENCHNCNN, FakeDevice, make_measurable

from mobile_matting_export import fit as fitting
from mobile_matting_export.artifact import read_artifact, write_json
from mobile_matting_export.cli.main import run

SAMPLES = Path(__file__).parent / "transcripts" / "phone"
# as benchncnn prints; the speed stands in a file beside the phone, by the width in the .param
RUNNER = (
    """#!/bin/sh
param=${6#param=}
width=$(sed -n 's/^Input.* 0=\\([0-9]*\\).*/\\1/p' "$param")
[ -e "$ROOT/fatal-$width" ] && { : > "$ROOT/reached"; sleep 60; }
read -r ms seconds < "$ROOT/speed-$width"
[ -n "$ms" ] || exit 3
sleep "$seconds"
"""
    + AS_BENCHNCNN
)
RUNS = 50 + 8


@pytest.fixture
def phone(device: FakeDevice) -> FakeDevice:
    """A phone fit to be measured: 8 ms for 128x128, 3 ms for 64x64."""
    make_measurable(device, SAMPLES)
    for width, ms in ((128, 8), (64, 3)):
        (device.root / f"speed-{width}").write_text(f"{ms} {ms * RUNS / 1000:.3f}\n")
    return device


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run ``mmexport fit`` of ldn_fb at 128 and 64 with the fake runner; nothing is converted, quality is 0."""
    monkeypatch.setattr(fitting, "convert_network", lambda network, job: [artifact(job.output, network.size)])
    none = {"mad": 0.0, "iou": 1.0}
    monkeypatch.setattr(fitting, "_qualities", lambda artifacts, full, clips: ([none] * len(artifacts), None, "itself"))
    runner = tmp_path / "benchncnn"
    runner.write_text(RUNNER)
    runner.chmod(0o755)
    sizes = ["--size", "128x128", "--size", "64x64"]
    protocol = ["--runner", str(runner), "--threads", "1", "--launches", "5", "--cooldown", "0"]

    def fit(serial: str, min_fps: float, *more: str) -> int:
        named = ["fit", "ldn_fb", "--device", serial, "--target", "ncnn-cpu", "--min-fps", f"{min_fps}"]
        return run([*named, *sizes, *protocol, "-o", str(tmp_path / "fit"), "-q", *more])

    return fit


def artifact(folder: Path, size: tuple[int, int]) -> Any:
    """A folder as convert writes it, of a network that only its size tells from another."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = size
    texts = {"net.param": f"7767517\n2 2\nInput image 0 1 image 0={width} 1={height} 2=3\n", "net.bin": "\0" * 100}
    for name, text in texts.items():
        (folder / name).write_text(text)
    tensor = {"layout": "NCHW", "dtype": "float32"}
    write_json(
        folder / "manifest.json",
        {
            "schema": "mmexport.manifest/1",
            "network": {"name": "net"},
            "target": "ncnn-cpu",
            "precision": "fp16",
            "accelerator": "cpu",
            "inputs": [tensor | {"name": "image", "shape": [1, 3, *size]}],
            "outputs": [tensor | {"name": "alpha", "shape": [1, 1, *size]}],
            "files": [
                {"path": name, "bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
                for name, text in texts.items()
            ],
            "parity": {"max_abs": 0.01, "mad": 0.001, "limits": {"max_abs": 0.1, "mad": 0.002}},
            "cost": {"params": 0, "macs": 0, "ops": 1},
        },
    )
    return read_artifact(folder)


def test_the_largest_size_that_the_phone_holds_is_chosen(
    fit: Callable[..., int], phone: FakeDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(phone.address, 200, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    large, small = told["points"]
    assert told["device"] == phone.address and told["chosen"] == small
    assert (large["p90_ms"], large["outcome"], small["p90_ms"], small["outcome"]) == (8.0, "slow", 3.0, "fast")
    assert phone.is_clean()


def test_a_size_whose_mattes_are_others_is_chosen_with_a_warning(
    fit: Callable[..., int], phone: FakeDevice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = {"mad": 0.36, "iou": 0.26}
    monkeypatch.setattr(fitting, "_qualities", lambda artifacts, full, clips: ([lost] * len(artifacts), None, "itself"))
    assert fit(phone.address, 100) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "0.3600" in out and "warning: at 128x128 the mattes lose 0.74 of IoU" in out


def test_none_is_fast_enough_on_the_phone(
    fit: Callable[..., int], phone: FakeDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(phone.address, 1000) == 5
    captured = capsys.readouterr()
    assert f"no size of ldn_fb tried reaches 1000 frames a second on {phone.address}" in captured.err
    assert captured.out.count("too slow") == 2 and "p90 ms" in captured.out


def test_a_time_that_cannot_be_defended_is_not_chosen_and_said_so(
    fit: Callable[..., int], phone: FakeDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    (phone.root / "speed-128").write_text("\n")  # the runner ends without a time
    assert fit(phone.address, 200) == 0  # the smaller one can be
    out = capsys.readouterr().out
    assert "inconclusive" in out and "128x128 fp16: " in out and "64x64" in out.split("chosen")[0]

    (phone.root / "speed-64").write_text("\n")
    assert fit(phone.address, 200) == 7
    assert "mmexport: inconclusive: no size of ldn_fb reaches 200 frames" in capsys.readouterr().err


def test_a_phone_that_is_lost_ends_the_search(
    fit: Callable[..., int], phone: FakeDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    (phone.root / "fatal-64").write_text("")
    phone.when_exists("reached", phone.lose)
    assert fit(phone.address, 200, "--json") == 6
    captured = capsys.readouterr()
    assert json.loads(captured.out)["exit_code"] == 6 and phone.address in captured.err


@pytest.mark.parametrize(
    ("serial", "more", "code", "words"),
    [
        ("nobody", [], 6, "nobody"),
        ("{phone}", ["--target", "onnx"], 2, "no phone runner for onnx"),
        ("{phone}", ["--runner", "nowhere"], 2, "no such file"),
        ("host", [], 2, "--threads is for phones"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_anything_is_converted(
    serial: str,
    more: list[str],
    code: int,
    words: str,
    fit: Callable[..., int],
    phone: FakeDevice,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fitting, "convert_network", None)
    assert fit(serial.format(phone=phone.address), 200, *more) == code
    assert words in capsys.readouterr().err
