"""``convert --autotune --device``: real forms of a real network, timed by a fake phone's runner."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_device import AS_BENCHNCNN, FakeDevice, make_measurable

from mobile_matting_export.cli.main import run

pytestmark = pytest.mark.toolchain

SAMPLES = Path(__file__).parent / "transcripts" / "phone"
# as benchncnn prints; the speed is that of files with, or without, the channels that only the row's own form adds
RUNNER = (
    """#!/bin/sh
param=${6#param=}
if [ $(wc -l < "$param") -gt LINES ]; then form=long; else form=short; fi
read -r ms seconds < "$ROOT/speed-$form"
[ -n "$ms" ] || exit 3
[ "$2" = 1 ] && ms=$((2 * ms))  # one thread takes longer than four
echo "$form" >> "$ROOT/launched"
sleep "$seconds"
[ "$2" = 1 ] && sleep "$seconds"
"""
    + AS_BENCHNCNN
)
RUNS = 50 + 8


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ldn_fb at 64x64 in the row's own forms: its convolutions are split over concatenations."""
    folder = tmp_path_factory.mktemp("plain")
    assert run([*CONVERT, "-o", str(folder), "-q"]) == 0
    return folder / "ldn_fb" / "ncnn-cpu-fp32"


CONVERT = ["convert", "ldn_fb", "-t", "ncnn-cpu", "-p", "fp32", "--size", "64x64"]


@pytest.fixture
def phone(device: FakeDevice) -> FakeDevice:
    make_measurable(device, SAMPLES)
    return device


@pytest.fixture
def tune(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Convert with the form timed on a phone; of two forms that with more layers is the split one."""
    (param,) = plain.glob("*.param")
    runner = tmp_path / "runners" / "benchncnn"
    runner.parent.mkdir()
    runner.write_text(RUNNER.replace("LINES", str(len(param.read_text().splitlines()) - 1)))
    runner.chmod(0o755)
    monkeypatch.setenv("MMEXPORT_RUNNERS", str(runner.parent))

    def tune(serial: str, *more: str) -> int:
        device = ["--autotune", "--device", serial]
        return run([*CONVERT, *device, "-o", str(tmp_path), "--cache", str(tmp_path / "cache"), "-q", *more])

    return tune


def speeds(phone: FakeDevice, **ms: float) -> None:
    for form, each in ms.items():
        (phone.root / f"speed-{form}").write_text(f"{each} {each * RUNS / 1000:.3f}\n")


@pytest.mark.parametrize(("long", "short", "taken"), [(4, 2, "joined"), (2, 4, "split"), (2, 2, "split")])
def test_the_form_that_is_faster_on_the_phone_is_written(
    long: int, short: int, taken: str, tune: Callable[..., int], phone: FakeDevice, plain: Path, tmp_path: Path
) -> None:
    speeds(phone, long=long, short=short)
    assert tune(phone.address) == 0

    made = tmp_path / "ldn_fb" / "ncnn-cpu-fp32"
    (entry,) = json.loads((made / "manifest.json").read_text())["autotune"]
    assert (entry["choice"], entry["taken"]) == ("split_conv_over_concat", taken)
    assert "4 threads" in entry["unit"] and phone.address not in (made / "manifest.json").read_text()
    assert {form["form"]: form["ms"] for form in entry["forms"]} == {"split": long, "joined": short}
    same = [(made / file.name).read_bytes() == file.read_bytes() for file in plain.glob("*.param")]
    assert same == [taken == "split"]
    assert phone.is_clean()

    launched = (phone.root / "launched").read_text()
    assert launched.split().count("long") == 2 * launched.split().count("short")  # its twin, too
    assert tune(phone.address) == 0  # decided before, on this phone
    assert (phone.root / "launched").read_text() == launched


def test_a_time_that_cannot_be_defended_decides_nothing(
    tune: Callable[..., int], phone: FakeDevice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speeds(phone, short=4)
    (phone.root / "speed-long").write_text("\n")  # the runner of the own form ends without a time
    assert tune(phone.address) == 7
    said = capsys.readouterr().err
    assert f"no time of ncnn-cpu on {phone.address}, split, that can be defended" in said
    assert not (tmp_path / "ldn_fb").exists() or not any((tmp_path / "ldn_fb").iterdir())


def test_a_form_that_the_phone_cannot_run_is_not_taken(
    tune: Callable[..., int], phone: FakeDevice, tmp_path: Path
) -> None:
    speeds(phone, long=4)
    (phone.root / "speed-short").write_text("\n")
    assert tune(phone.address) == 0
    (entry,) = json.loads((tmp_path / "ldn_fb" / "ncnn-cpu-fp32" / "manifest.json").read_text())["autotune"]
    assert (entry["taken"], entry["forms"][1]) == ("split", {"form": "joined", "ms": None})
