"""The device's alpha against the original's: garbage is told from rounding, and from no alpha at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_machine import FakeMachine, benchmark_text

from android_bench.job import Job, ParityCase, ParityLimits
from android_bench.machine import Completed
from android_bench.parity import check_parity, why_not
from android_bench.prepare import Settings, prepare
from android_bench.runners import find_runner

SHAPE = (1, 64, 48, 1)
ALPHA = np.random.default_rng(0).random(SHAPE, np.float32)


@pytest.fixture
def job(make_job: Callable[..., Job], tmp_path: Path) -> Job:
    picture = tmp_path / "image.raw"
    np.zeros((1, 64, 48, 3), np.float32).tofile(picture)
    alpha = tmp_path / "alpha.raw"
    ALPHA.tofile(alpha)
    return make_job(
        cases=tuple(ParityCase(name, (picture,), alpha) for name in ("a.jpg", "b.jpg")),
        limits=ParityLimits(0.1, 0.002),
    )


def parity_of(job: Job, made: np.ndarray | None, done: Completed | None = None) -> dict[str, Any]:
    def answer(argv: Sequence[str], number: int) -> bytes | Completed:
        place = next(word.partition("=")[2] for word in argv if word.startswith("--output_filepath"))
        if made is not None:
            machine.files[place] = made.astype("<f4").tobytes()
        return done or benchmark_text(20)

    machine = FakeMachine(answer)
    prepared = prepare(machine, job, find_runner("tflite"), ["/bench"], Settings(), 0)
    said: list[str] = []
    result = check_parity(machine, prepared, said.append, machine.clock)
    assert (
        "image:" in str(machine.commands[0]) and machine.pushed["0-case-0-0.raw"] == job.cases[0].inputs[0].read_bytes()
    )
    assert said[0] == "net tflite-cpu-fp32: the alpha of a.jpg on the device"
    return result


def test_rounding_passes_and_is_told(job: Job) -> None:
    result = parity_of(job, np.clip(ALPHA + 0.001, 0, 1))
    assert result["passed"] and result["images"] == 2
    assert result["max_abs"] == pytest.approx(0.001, rel=1e-3) and result["mad"] == pytest.approx(0.001, rel=0.01)
    assert result["psnr_db"] == pytest.approx(60, abs=0.1) and result["limits"] == {"max_abs": 0.1, "mad": 0.002}


def test_equal_has_no_psnr(job: Job) -> None:
    result = parity_of(job, ALPHA)
    assert result["passed"] and result["max_abs"] == 0 and result["psnr_db"] is None


def test_outputs_behind_the_alpha_are_left(job: Job) -> None:
    assert parity_of(job, np.concatenate([ALPHA.ravel(), np.full(7, 9.0)]))["passed"]


@pytest.mark.parametrize("made", [1 - ALPHA, np.zeros(SHAPE), np.full(SHAPE, np.nan), ALPHA * 255, ALPHA[:, :32]])
def test_garbage_does_not_pass(job: Job, made: np.ndarray) -> None:
    assert parity_of(job, made)["passed"] is False


def test_a_mad_beyond_its_limit_fails_though_no_pixel_is_far_off(job: Job) -> None:
    result = parity_of(job, np.clip(ALPHA + 0.01, 0, 1))
    assert result["max_abs"] < 0.1 and result["passed"] is False


@pytest.mark.parametrize("done", [None, Completed(139, b"", b"")])
def test_no_alpha_is_neither_right_nor_wrong(job: Job, done: Completed | None) -> None:
    result = parity_of(job, None, done)
    assert result["passed"] is None and result["error"]


def test_benchncnn_cannot_show_its_alpha_and_the_report_says_so(make_job: Callable[..., Job], job: Job) -> None:
    machine = FakeMachine(lambda argv, number: b"")
    ncnn = prepare(machine, make_job(runtime="ncnn"), find_runner("ncnn"), ["/b"], Settings(), 0)
    assert "never reads the weights" in why_not(ncnn)
    tflite = prepare(machine, make_job(), find_runner("tflite"), ["/b"], Settings(), 0)
    assert "no verification frames" in why_not(tflite)
    assert why_not(prepare(machine, job, find_runner("tflite"), ["/b"], Settings(), 0)) == ""
