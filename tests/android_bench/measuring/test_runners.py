"""Every runner's command says what was asked, and impossible times are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from android_bench.errors import RequestError
from android_bench.job import Job, Tensor
from android_bench.runners import RUNNERS, find_runner
from android_bench.runners.check_speed import speed_findings
from android_bench.runners.ncnn import shape_refusal, slower_with_threads
from android_bench.runners.runner import Launch, Measurement, Output, Runner, RunnerFailed, require_success

MakeJob, MakeLaunch = Callable[..., Job], Callable[..., Launch]
ON_PHONES = [runner for runner in RUNNERS if runner.name != "host"]
runners = pytest.mark.parametrize("runner", ON_PHONES, ids=lambda runner: runner.name)


@runners
def test_command_starts_with_the_mask_and_the_program(
    runner: Runner, make_job: MakeJob, make_launch: MakeLaunch
) -> None:
    job = make_job(runtime=runner.runtime)
    argv = runner.command(job, make_launch(mask="f0")).argv
    assert argv[:3] == ("taskset", "f0", "/d/bench")
    assert runner.command(job, make_launch()).argv[0] == "/d/bench"
    assert all(isinstance(word, str) for word in argv)


@runners
def test_file_names_with_shell_characters_stay_one_word(
    runner: Runner, make_job: MakeJob, make_launch: MakeLaunch
) -> None:
    name = "/d/a b;reboot"
    argv = runner.command(make_job(runtime=runner.runtime), make_launch(files=(name,))).argv
    assert [word.partition("=")[2] for word in argv if name in word] == [name]


def test_tflite_on_the_gpu_asks_for_all_of_it(make_job: MakeJob, make_launch: MakeLaunch) -> None:
    argv = find_runner("tflite").command(make_job(accelerator="gpu", precision="fp16"), make_launch(runs=70)).argv
    for flag in ("--use_gpu=true", "--gpu_backend=cl", "--require_full_delegation=true", "--num_runs=70"):
        assert flag in argv
    assert "--gpu_precision_loss_allowed=true" in argv
    exact = find_runner("tflite").command(make_job(accelerator="gpu", precision="fp32"), make_launch()).argv
    assert "--gpu_precision_loss_allowed=false" in exact


def test_litert_on_the_gpu_leaves_the_cpu_out(make_job: MakeJob, make_launch: MakeLaunch) -> None:
    argv = find_runner("tflite", "litert").command(make_job(accelerator="gpu"), make_launch()).argv
    assert {"--use_gpu=true", "--use_cpu=false", "--require_full_delegation=true", "--gpu-precision=fp32"} <= set(argv)


def test_tflite_feeds_files_under_the_tensors_names(make_job: MakeJob, make_launch: MakeLaunch) -> None:
    job = make_job(inputs=(Tensor("image", (1, 2, 3, 3), "NHWC"), Tensor("state:0", (1, 2, 3, 1), "NHWC")))
    argv = (
        find_runner("tflite")
        .command(job, make_launch(input_files=("/d/a", "/d/b"), output_file="/d/out", frequency=30))
        .argv
    )
    assert "--input_layer=image,state:0" in argv and "--input_layer_shape=1,2,3,3:1,2,3,1" in argv
    assert r"--input_layer_value_files=image:/d/a,state\:0:/d/b" in argv
    assert "--output_filepath=/d/out" in argv and "--run_frequency=30" in argv


def test_benchncnn_gets_width_height_channels(make_job: MakeJob, make_launch: MakeLaunch) -> None:
    job = make_job(runtime="ncnn", accelerator="gpu")
    argv = find_runner("ncnn").command(job, make_launch(runs=12, threads=2, mask="f0")).argv
    assert argv[2:] == ("/d/bench", "12", "2", "3", "0", "0", "param=/d/m", "shape=[48,64,3]")
    assert find_runner("ncnn").command(job, make_launch()).argv[3] == "2", "without a mask ncnn's own big cores"


def test_ncnn_refuses_a_file_of_another_shape(make_job: MakeJob) -> None:
    job = make_job(runtime="ncnn")
    good = "7767517\n1 1\nInput   in0  0 1 image 0=48 1=64 2=3\n"
    assert shape_refusal(job, good) is None
    refusal = shape_refusal(job, good.replace("0=48", "0=96"))
    assert refusal is not None and refusal.name == "wrong-shape" and "(96, 64, 3)" in refusal.text
    assert shape_refusal(job, "7767517\n") is not None


def test_threads_of_a_build_without_openmp_are_found() -> None:
    assert slower_with_threads(252.0, 252.7, 4) is not None
    assert slower_with_threads(252.0, 80.0, 4) is None
    assert slower_with_threads(252.0, 252.0, 1) is None


@pytest.mark.parametrize(("value_ms", "names"), [(20.0, []), (0.97, ["implied-flops"]), (0.0, ["implied-flops"])])
def test_times_that_no_chip_reaches_are_refused(
    value_ms: float, names: list[str], make_job: MakeJob, make_launch: MakeLaunch
) -> None:
    measured = Measurement("text", 50, value_ms)
    found = speed_findings(make_job(macs=10_000_000_000), make_launch(), measured, None)
    assert [finding.name for finding in found] == names


def test_a_launch_much_longer_than_its_frames_timed_their_enqueueing(
    make_job: MakeJob, make_launch: MakeLaunch
) -> None:
    told = Measurement("text", 3650, 0.274, warmup_runs=3650)
    (finding,) = speed_findings(make_job(accelerator="gpu"), make_launch(), told, wall_s=120.0)
    assert finding.name == "enqueue-only"
    honest = replace(told, mean_ms=16.0)
    assert speed_findings(make_job(accelerator="gpu"), make_launch(), honest, wall_s=120.0) == ()
    assert speed_findings(make_job(accelerator="gpu"), make_launch(frequency=30.0), told, wall_s=120.0) == ()


def test_fp32_gpu_time_without_the_sentence_is_not_proved(make_job: MakeJob, make_launch: MakeLaunch) -> None:
    line = "count=50 first=29377 curr=29512 min=29010 max=31022 avg=29460.5 std=338\n"
    measured = find_runner("tflite").read(make_job(accelerator="gpu"), make_launch(), Output(0, line * 2, ""))
    assert [finding.name for finding in measured.refusals] == ["gpu-not-proved"]


def test_a_death_is_named_by_its_signal() -> None:
    with pytest.raises(RunnerFailed, match="SIGSEGV") as failure:
        require_success("benchncnn", Output(139, "", "loading\nlast words\n"))
    assert failure.value.name == "crashed" and "last words" in str(failure.value)
    with pytest.raises(RunnerFailed, match="status 255"):
        require_success("benchncnn", Output(255, "", ""))


def test_unknown_runners_are_refused_with_those_there_are() -> None:
    with pytest.raises(RequestError, match=r"tflite \(tflite\)"):
        find_runner("ncnn", "tflite")


def test_runner_names_are_unique() -> None:
    assert len({(runner.name, runner.runtime) for runner in RUNNERS}) == len(RUNNERS)


def test_the_host_is_never_taken_unless_named() -> None:
    assert all(find_runner(runtime).name == runtime for runtime in ("tflite", "ncnn"))
    assert find_runner("ncnn", "host").runtime == "ncnn"
