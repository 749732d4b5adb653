"""The largest input size that reaches a frame rate: legal sizes, the search, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mobile_matting_export import fit as fitting
from mobile_matting_export.cli.main import run
from mobile_matting_export.errors import QualityError, UsageError
from mobile_matting_export.fit import Search, fit_network, legal_sizes
from mobile_matting_export.network import check_size, find_spec
from mobile_matting_export.networks import ALL
from mobile_matting_export.targets import find_target
from mobile_matting_export.time_here import FAST, INCONCLUSIVE, SLOW, WRONG, Timing


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_sizes_are_legal_and_fall_from_the_usual_one(spec) -> None:  # type: ignore[no-untyped-def]
    sizes = legal_sizes(spec)
    for size in sizes:
        check_size(spec, size)
    assert sizes[0] == spec.size and len(set(sizes)) == len(sizes)
    assert [h * w for h, w in sizes] == sorted((h * w for h, w in sizes), reverse=True)
    assert len(sizes) == 1 if spec.fixed_size else len(sizes) > 2


def test_a_wide_input_keeps_its_aspect() -> None:
    wide = replace(find_spec("mmnet"), size=(192, 256))
    assert (144, 192) in legal_sizes(wide)
    assert all(abs(w / h - 4 / 3) < 0.2 for h, w in legal_sizes(wide))


def by_area_timer(artifacts: Sequence[Any], min_fps: float) -> list[Timing]:
    times = [one.size[0] * one.size[1] / 4096 for one in artifacts]
    return [Timing(ms, FAST if 1000 / ms >= min_fps else SLOW) for ms in times]


@pytest.fixture
def by_area(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Nothing is converted: a frame takes a millisecond per 4096 pixels. The sizes converted, in order."""
    converted: list[tuple[int, int]] = []

    def convert(network, job):  # type: ignore[no-untyped-def]
        converted.append(network.size)
        if network.size == (160, 160):
            raise QualityError("not the same matte")
        return [SimpleNamespace(folder=job.output, size=network.size)]

    monkeypatch.setattr(fitting, "convert_network", convert)
    monkeypatch.setattr(fitting, "time_here", by_area_timer)
    monkeypatch.setattr(
        fitting, "_qualities", lambda artifacts, full, clips: ([{"mad": 0.0}] * len(artifacts), None, "")
    )
    return converted


def search(fps: float, output: Path, **options: object) -> Search:
    return Search(find_target("tflite-cpu"), ("fp32",), fps, output, **options)  # type: ignore[arg-type]


def load(size: tuple[int, int] | None) -> SimpleNamespace:
    spec = find_spec("mmnet")
    return SimpleNamespace(spec=spec, size=size or spec.size)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(50, (256, 256)), (70, (224, 224)), (100, (192, 192)), (130, (128, 128)), (400, (96, 96)), (900, (64, 64))],
)
def test_the_largest_fast_size_is_found_without_trying_all(
    fps: float, expected: tuple[int, int], by_area: list[tuple[int, int]], tmp_path: Path
) -> None:
    found = fit_network(load, search(fps, tmp_path))  # type: ignore[arg-type]
    assert found.chosen is not None and found.chosen.size == expected
    assert len(by_area) <= 5 and len(set(by_area)) == len(by_area)
    missed = [point for point in found.points if point.size == (160, 160)]
    assert all(point.missed and not point.reaches for point in missed)


def test_nothing_is_chosen_when_all_are_too_slow(by_area: list[tuple[int, int]], tmp_path: Path) -> None:
    found = fit_network(load, search(2000, tmp_path))  # type: ignore[arg-type]
    assert found.chosen is None and found.points[-1].size == (64, 64)


def test_only_the_sizes_given_are_tried(by_area: list[tuple[int, int]], tmp_path: Path) -> None:
    found = fit_network(load, search(100, tmp_path, sizes=((128, 128), (256, 256))))  # type: ignore[arg-type]
    assert by_area == [(256, 256), (128, 128)]
    assert found.chosen is not None and found.chosen.size == (128, 128)


def test_a_target_on_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tflite-gpu runs on a phone's GPU"):
        fit_network(load, replace(search(30, tmp_path), target=find_target("tflite-gpu")))  # type: ignore[arg-type]


def test_a_phone_times_what_runs_on_its_gpu(by_area: list[tuple[int, int]], tmp_path: Path) -> None:
    asked = replace(search(100, tmp_path), target=find_target("tflite-gpu"), timer=by_area_timer)
    found = fit_network(load, asked)  # type: ignore[arg-type]
    assert found.chosen is not None and found.chosen.size == (192, 192)


def test_a_size_whose_time_is_inconclusive_counts_as_too_slow(by_area: list[tuple[int, int]], tmp_path: Path) -> None:
    def noisy(artifacts: Sequence[Any], min_fps: float) -> list[Timing]:
        timed = by_area_timer(artifacts, min_fps)
        return [
            Timing(timing.ms, INCONCLUSIVE, "noisy") if one.size == (192, 192) else timing
            for one, timing in zip(artifacts, timed, strict=True)
        ]

    found = fit_network(load, search(100, tmp_path, timer=noisy))  # type: ignore[arg-type]
    assert found.chosen is not None and found.chosen.size == (128, 128)
    assert [point.size for point in found.points if point.doubtful] == [(192, 192)]


def test_a_size_whose_matte_is_wrong_on_the_phone_is_missed(by_area: list[tuple[int, int]], tmp_path: Path) -> None:
    def wrong(artifacts: Sequence[Any], min_fps: float) -> list[Timing]:
        return [
            Timing(timing.ms, WRONG, "not the network's alpha") if one.size == (256, 256) else timing
            for one, timing in zip(artifacts, by_area_timer(artifacts, min_fps), strict=True)
        ]

    found = fit_network(load, search(1, tmp_path, timer=wrong))  # type: ignore[arg-type]
    assert found.points[0].missed == "not the network's alpha" and found.points[0].artifact is None
    assert found.chosen is not None and found.chosen.size == (224, 224)


@pytest.mark.toolchain
def test_host_times_verifies_and_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "ldn_fb", "--device", "host", "--size", "64x64", "--size", "128x128", "-o", str(tmp_path), "-q"]
    assert run([*words, "--min-fps", "0.1", "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["points"]  # the largest is fast enough
    assert only["size"] == [128, 128] and only["reaches"] and only["cpu_ms"] > 0
    assert only["parity"]["passed"] and only["quality"]["mad"] < 1e-5  # its own full size: 1e-7 measured
    assert only["quality"]["iou"] == 1.0

    assert run([*words, "--min-fps", "1000000", "--json"]) == 5
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["chosen"] is None and "reaches 1e+06 frames a second" in captured.err
    large, small = found["points"]
    assert small["cpu_ms"] < large["cpu_ms"]
    assert 0 < large["quality"]["mad"] + 1e-12 < small["quality"]["mad"] < 0.2
