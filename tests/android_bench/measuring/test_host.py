"""This computer as a machine: child processes that end in time, and models in a worker process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from android_bench import host_worker
from android_bench.errors import CommandTimeout, FileMissing, RequestError
from android_bench.host import PROGRAM, host_mask, open_host, read_host, read_host_state
from android_bench.job import Job, Tensor
from android_bench.launch_once import Clock, launch_once
from android_bench.prepare import Settings, prepare
from android_bench.runners import find_runner
from android_bench.runners.runner import Launch, Output, RunnerFailed
from android_bench.take_output import take_output


def test_a_command_ends_with_its_status_and_both_streams() -> None:
    with open_host() as host:
        done = host.run(["sh", "-c", "echo out; echo err >&2; exit 3"], 10)
        assert (done.status, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
        assert host.run(["sh", "-c", "kill -SEGV $$"], 10).status == 139
        assert host.run(["pwd"], 10).stdout.decode().strip() == host.folder
    assert not Path(host.folder).exists()


def test_a_command_that_hangs_is_ended_with_its_children() -> None:
    with open_host() as host:
        begun = time.monotonic()
        with pytest.raises(CommandTimeout, match=r"0\.5 s"):
            host.run(["sh", "-c", "echo begun; (sleep 50; touch late) & sleep 50"], 0.5)
        assert time.monotonic() - begun < 10


def test_no_such_program_is_an_error_for_people() -> None:
    with open_host() as host, pytest.raises(RequestError, match="cannot run no-such-program"):
        host.run(["no-such-program"], 1)


def test_files_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with open_host() as host:
        path = host.push(tmp_path / "a", "b c;d")
        host.pull(path, tmp_path / "back")
        assert (tmp_path / "back").read_text() == "x"
        with pytest.raises(FileMissing):
            host.pull(f"{host.folder}/none", tmp_path / "none")


def test_the_computer_says_what_it_is() -> None:
    with open_host() as host:
        device, state = read_host(host), read_host_state(host)
    assert device.serial == "host" and device.abi != "unknown" and device.android == "unknown"
    assert isinstance(state.load, float) and state.thermal_status == "unknown"


def test_as_many_cores_as_threads_are_taken() -> None:
    assert bin(int(host_mask(1), 16)).count("1") == 1
    with pytest.raises(RequestError, match="--threads 4096"):
        host_mask(4096)


def test_frames_are_timed_one_by_one_after_the_warm_up() -> None:
    calls: list[float] = []

    def invoke() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.002 if len(calls) > 3 else 0.02)

    told = host_worker.measure_frames(
        invoke, {"warmup_s": 0.05, "runs": 20, "seconds": 0.0, "frequency": 0, "threads": 1}
    )
    assert told["runs"] == 20 and told["warmup_runs"] == len(calls) - 20
    assert told["first_ms"] >= 20 and 2 <= told["min_ms"] <= told["median_ms"] <= told["p90_ms"] <= told["max_ms"]
    assert 0 <= told["cpu_share"] < 0.9, "a program that sleeps uses no processor"


def test_at_the_cameras_rate_frames_keep_their_distance() -> None:
    begun = time.perf_counter()
    request = {"warmup_s": 0.0, "runs": 1, "seconds": 0.3, "frequency": 20, "threads": 1}
    told = host_worker.measure_frames(lambda: None, request)
    assert 6 <= told["runs"] <= 8 and time.perf_counter() - begun >= 0.3
    assert told["cpu_share"] is None


def test_the_request_arrives_as_it_was_asked(make_job: Callable[..., Job], make_launch: Callable[..., Launch]) -> None:
    command = find_runner("tflite", "host").command(make_job(), make_launch(program=PROGRAM, mask="2", threads=1))
    request = json.loads(command.argv[-1])
    assert command.argv[:-1] == PROGRAM and request["mask"] == "2" and request["files"] == ["/d/m"]
    assert request["inputs"] == [{"name": "image", "shape": [1, 64, 48, 3], "dtype": "float32"}]


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (Output(0, "", ""), "truncated-output"),
        (Output(0, "{", ""), "truncated-output"),
        (Output(0, "{}", ""), "no-runs"),
        (Output(1, "", "no input x"), "failed"),
        (Output(139, "", ""), "crashed"),
    ],
)
def test_a_worker_without_a_result_is_refused(
    output: Output, name: str, make_job: Callable[..., Job], make_launch: Callable[..., Launch]
) -> None:
    with pytest.raises(RunnerFailed) as failure:
        find_runner("ncnn", "host").read(make_job(), make_launch(), output)
    assert failure.value.name == name


def test_the_gpu_of_this_computer_is_refused(make_job: Callable[..., Job], make_launch: Callable[..., Launch]) -> None:
    text = json.dumps({"runs": 20, "mean_ms": 5.0, "median_ms": 5.0})
    measured = find_runner("tflite", "host").read(make_job(accelerator="gpu"), make_launch(), Output(0, text, ""))
    assert [finding.name for finding in measured.refusals] == ["cpu-instead-of-gpu"]


PARAM = """7767517
2 2
Input image 0 1 image 0=48 1=64 2=3
Sigmoid s 1 1 image alpha
"""


@pytest.mark.toolchain
def test_ncnn_runs_in_the_worker_and_leaves_its_output(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job(runtime="ncnn")
    job.files[0].write_text(PARAM)
    job.files[1].write_bytes(b"")
    picture = np.random.default_rng(0).random((1, 3, 64, 48), np.float32)
    picture.tofile(tmp_path / "image.raw")
    with open_host() as host:
        prepared = prepare(host, job, find_runner("ncnn", "host"), PROGRAM, Settings(1, host_mask(1), 3, 0.0, 0.0), 0)
        launch = Launch(
            PROGRAM,
            prepared.launch.files,
            host.folder,
            1,
            3,
            0.0,
            0.0,
            input_files=(str(tmp_path / "image.raw"),),
            output_file=str(tmp_path / "alpha.raw"),
        )
        measured, wall_s = launch_once(host, prepared, launch, Clock())
    assert measured.runs == 3 and measured.median_ms is not None and 0 < measured.median_ms < 1e3 * wall_s
    alpha = np.fromfile(tmp_path / "alpha.raw", np.float32).reshape(picture[0].shape)
    assert np.abs(alpha - 1 / (1 + np.exp(-picture[0]))).max() < 1e-6


# the state is off the alpha's way: ncnn computes it only when it is asked for
WITH_STATE = """7767517
4 5
Input image 0 1 image 0=48 1=64 2=3
Split split 1 2 image left right
Sigmoid s 1 1 left alpha
ReLU r 1 1 right next_h
"""


def run_with_state(job: Job, folder: Path, *outputs: Tensor) -> np.ndarray:
    job.files[0].write_text(WITH_STATE)
    job.files[1].write_bytes(b"")
    picture = np.random.default_rng(0).normal(size=(1, 3, 64, 48)).astype(np.float32)
    picture.tofile(folder / "image.raw")
    job = replace(job, outputs=outputs)
    with open_host() as host:
        prepared = prepare(host, job, find_runner("ncnn", "host"), PROGRAM, Settings(1, "", 3, 0.0, 0.0), 0)
        files = {"input_files": (str(folder / "image.raw"),), "output_file": str(folder / "out.raw")}
        launch_once(host, prepared, replace(prepared.launch, **files), Clock())
    return picture


@pytest.mark.toolchain
def test_ncnn_computes_the_states_too_and_leaves_them_behind_the_alpha(
    make_job: Callable[..., Job], tmp_path: Path
) -> None:
    job = make_job(runtime="ncnn", precision="fp32")
    outputs = tuple(Tensor(name, (1, 3, 64, 48), "NCHW") for name in ("alpha", "next_h"))
    picture = run_with_state(job, tmp_path, *outputs)
    raw = (tmp_path / "out.raw").read_bytes()
    assert np.abs(take_output(raw, outputs, "alpha") - 1 / (1 + np.exp(-picture))).max() < 1e-6
    assert np.array_equal(take_output(raw, outputs, "next_h"), np.maximum(picture, 0))
    with pytest.raises(RunnerFailed, match="ncnn knows no output next_x"):
        run_with_state(job, tmp_path, outputs[0], replace(outputs[1], name="next_x"))
