"""The device's alpha against the original's: garbage is told from rounding, and from no alpha at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_machine import FakeMachine, benchmark_text

from android_bench.job import Job, ParityCase, ParityLimits, Tensor
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


def test_an_alpha_of_8_bits_is_compared_by_what_it_stands_for(job: Job) -> None:
    alpha = replace(job.output, dtype="int8", scale=1 / 255, zero_point=-128)
    stored = replace(job, output=alpha, outputs=(alpha, Tensor("next_h", (1, 5, 1, 1), "NHWC", "int8")))
    made = (np.rint(ALPHA * 255) - 128).astype(np.int8)
    behind = np.zeros(5, np.int8)
    result = parity_of(stored, np.concatenate([made.ravel(), behind]))
    assert result["passed"] and 0.001 < result["max_abs"] <= 0.5 / 255 + 1e-6
    assert parity_of(stored, np.concatenate([-made.ravel(), behind]))["passed"] is False


def parity_of(job: Job, made: np.ndarray | None, done: Completed | None = None) -> dict[str, Any]:
    def answer(argv: Sequence[str], number: int) -> bytes | Completed:
        place = next(word.partition("=")[2] for word in argv if word.startswith("--output_filepath"))
        if made is not None:
            machine.files[place] = (made if made.dtype == np.int8 else made.astype("<f4")).tobytes()
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


@pytest.fixture
def with_states(job: Job) -> Job:
    """Two new values of states behind the alpha, one between it and the end twice as large as the alpha."""
    states = (Tensor("next_a", (1, 32, 24, 8), "NHWC"), Tensor("next_b", (1, 1, 7, 1), "NHWC"))
    return replace(job, outputs=(job.output, *states))


def test_states_behind_the_alpha_are_told_from_it_by_the_manifests_sizes(with_states: Job) -> None:
    states = np.full(32 * 24 * 8 + 7, 9.0)
    assert parity_of(with_states, np.concatenate([ALPHA.ravel(), states]))["passed"]
    wherever = replace(with_states, outputs=with_states.outputs[::-1])
    assert parity_of(wherever, np.concatenate([states, ALPHA.ravel()]))["passed"]
    assert parity_of(wherever, np.concatenate([ALPHA.ravel(), states]))["passed"] is False


@pytest.mark.parametrize("more", [-1, 1, -(32 * 24 * 8 + 7)])
def test_outputs_that_do_not_add_up_are_no_alpha_at_all(with_states: Job, more: int) -> None:
    written = np.concatenate([ALPHA.ravel(), np.zeros(32 * 24 * 8 + 7 + max(more, 0))])
    result = parity_of(with_states, written[: len(written) + min(more, 0)])
    assert result["passed"] is None
    assert result["error"] == (
        f"the runner wrote {4 * (64 * 48 + 32 * 24 * 8 + 7 + more)} bytes, "
        "where the manifest has alpha 12288 and next_a 24576 and next_b 28"
    )


def test_an_alpha_with_something_behind_it_that_no_manifest_names_is_a_wrong_one(job: Job) -> None:
    result = parity_of(job, np.concatenate([ALPHA.ravel(), np.full(7, 9.0)]))
    assert result["passed"] is False and "where the manifest has alpha 12288" in result["error"]


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
