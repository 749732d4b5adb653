"""The protocol, on a machine with scripted answers and a clock that waits for nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fake_machine import GPU, FakeMachine, benchmark_text, states

from android_bench.device import DeviceState
from android_bench.errors import CommandTimeout, DeviceLost
from android_bench.gate import Budget, judge_result
from android_bench.job import Job
from android_bench.machine import Completed
from android_bench.measure import Measured, Plan, measure
from android_bench.prepare import Prepared, Settings, prepare
from android_bench.read_battery import Battery
from android_bench.read_cores import Cluster
from android_bench.read_thermal import Thermal
from android_bench.report import build_result
from android_bench.runners import find_runner
from android_bench.unknown import UNKNOWN

MakeJob = Callable[..., Job]
COOL = DeviceState(thermal=Thermal(status=0), battery=Battery(80, 30.0, "usb", False), low_power=False)


def steady(argv: Sequence[str], number: int) -> bytes:
    return benchmark_text(20 + 0.1 * (number % 3), 22)


def prepared_on(machine: FakeMachine, *jobs: Job, threads: int = 4) -> list[Prepared]:
    return [
        prepare(machine, job, find_runner(job.runtime), ["/bench"], Settings(threads=threads, mask="f0"), number)
        for number, job in enumerate(jobs)
    ]


def run(machine: FakeMachine, jobs: Sequence[Job], plan: Plan | None = None, **changed: Any) -> Measured:
    look = changed.get("look", states(COOL))
    announce = changed.get("announce", lambda message: None)
    entries = prepared_on(machine, *jobs, threads=changed.get("threads", 4))
    return measure(machine, entries, plan or Plan(), look, announce, machine.clock)


def result_of(measured: Measured, number: int = 0, plan: Plan | None = None) -> dict[str, Any]:
    return build_result(measured.records[number], plan or Plan(), None, [])


def test_seven_launches_are_kept_with_their_snapshots(make_job: MakeJob) -> None:
    machine = FakeMachine(steady)
    said: list[str] = []
    measured = run(machine, [make_job()], announce=said.append)
    result = result_of(measured)
    assert measured.error is None and len(result["launches"]) == 7 and len(machine.commands) == 7
    assert result["launches"][0]["median_ms"] == 20 and result["launches"][0]["p95_ms"] == 22
    assert all(
        launch["before"]["thermal_status"] == launch["after"]["thermal_status"] == 0 for launch in result["launches"]
    )
    assert result["latency_ms"]["p50"] == pytest.approx(20.1) and result["latency_ms"]["p90"] == 22
    assert result["accelerator_proved"] and result["affinity"] == "f0" and result["fps"] == pytest.approx(1000 / 20.1)
    assert (
        said[0] == "net tflite-cpu-fp32, launch 1 of 7: median 20.00 ms, p95 22.00 ms (battery 30 C, thermal status 0)"
    )
    assert len(said) == 7
    assert judge_result(result, Budget(30)).outcome == "pass"


def test_two_artifacts_take_turns(make_job: MakeJob) -> None:
    machine = FakeMachine(steady)
    run(machine, [make_job(title="A"), make_job(title="B")], Plan(launches=3))
    graphs = [next(word for word in argv if word.startswith("--graph")) for argv in machine.commands]
    assert graphs == [graphs[0], graphs[1]] * 3 and graphs[0] != graphs[1]


def test_every_launch_has_a_result_file_of_its_own(make_job: MakeJob) -> None:
    machine = FakeMachine(steady)
    run(machine, [make_job()], Plan(launches=3))
    files = {next(word for word in argv if word.startswith("--result_file")) for argv in machine.commands}
    assert len(files) == 3


def test_a_hot_phone_is_waited_for(make_job: MakeJob) -> None:
    hot = DeviceState(thermal=Thermal(status=2))
    machine = FakeMachine(steady)
    said: list[str] = []
    measured = run(machine, [make_job()], look=states(hot, hot, COOL), announce=said.append)
    assert machine.slept == [15, 15] and measured.records[0].preconditions == ()
    assert said[0] == "waiting for the device to cool down: thermal status 2, 0 is wanted"


def test_a_phone_that_stays_hot_is_inconclusive_after_the_limit(make_job: MakeJob) -> None:
    machine = FakeMachine(steady)
    hot = DeviceState(battery=Battery(80, 41.0, "usb", False))
    measured = run(machine, [make_job()], Plan(cooldown_limit_s=100), look=states(hot))
    assert sum(machine.slept) == 100
    verdict = judge_result(result_of(measured), Budget(30))
    assert verdict.outcome == "inconclusive" and "battery at 41 C" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (DeviceState(low_power=True), "power saving"),
        (DeviceState(battery=Battery(12, 25.0, None, False)), "battery at 12 %"),
        (DeviceState(battery=Battery(80, 25.0, "usb", True)), "battery's values by hand"),
        (DeviceState(thermal=Thermal(0, overridden=True)), "thermal status by hand"),
    ],
)
def test_what_waiting_does_not_mend_is_not_waited_for(state: DeviceState, words: str, make_job: MakeJob) -> None:
    machine = FakeMachine(steady)
    measured = run(machine, [make_job()], look=states(state))
    assert machine.slept == [] and words in measured.records[0].preconditions[0]
    assert judge_result(result_of(measured), Budget(30)).outcome == "inconclusive"


def test_what_the_phone_does_not_tell_speaks_neither_way(make_job: MakeJob) -> None:
    measured = run(FakeMachine(steady), [make_job()], look=states(DeviceState()))
    assert measured.records[0].preconditions == ()
    assert judge_result(result_of(measured), Budget(30)).outcome == "pass"


def test_throttling_in_the_middle_is_inconclusive(make_job: MakeJob) -> None:
    warm = DeviceState(thermal=Thermal(status=1))
    measured = run(FakeMachine(steady), [make_job()], look=states(*[COOL] * 8, warm))
    verdict = judge_result(result_of(measured), Budget(30))
    assert verdict.outcome == "inconclusive" and "thermal status rose from 0 to 1" in verdict.reasons[0]


def test_lowered_clocks_are_inconclusive(make_job: MakeJob) -> None:
    full, capped = (DeviceState(cores=(Cluster((4, 5), 2_800_000, top),)) for top in (2_800_000, 2_000_000))
    measured = run(FakeMachine(steady), [make_job()], look=states(*[full] * 9, capped))
    verdict = judge_result(result_of(measured), Budget(30))
    assert verdict.outcome == "inconclusive" and "highest clock of cores 4" in verdict.reasons[0]


FREE, HELD = (DeviceState(cores=(Cluster((4, 5, 6), 2_800_000, top),)) for top in (2_800_000, 1_500_000))
SAID = "clocks are held down: cores 4-6 may run at 1.50 of 2.80 GHz"


def test_clocks_that_are_held_down_at_the_start_are_waited_for(make_job: MakeJob) -> None:
    machine = FakeMachine(steady)
    said: list[str] = []
    measured = run(machine, [make_job()], look=states(HELD, HELD, FREE), announce=said.append)
    assert machine.slept == [15, 15] and said[0] == f"waiting for the device to cool down: {SAID}"
    assert judge_result(result_of(measured), Budget(30)).outcome == "pass"


def test_clocks_that_stay_held_down_are_inconclusive_after_the_limit(make_job: MakeJob) -> None:
    machine = FakeMachine(steady)
    measured = run(machine, [make_job()], Plan(cooldown_limit_s=100), look=states(HELD))
    assert sum(machine.slept) == 100 and len(measured.records[0].launches) == 7
    verdict = judge_result(result_of(measured), Budget(30))
    assert verdict.outcome == "inconclusive"
    assert verdict.reasons[0] == f"precondition: {SAID} (after 100 s of waiting)"


def test_clocks_that_are_held_on_purpose_speak_neither_way(make_job: MakeJob) -> None:
    machine = FakeMachine(steady)
    measured = run(machine, [make_job()], Plan(clocks="held"), look=states(HELD))
    assert machine.slept == [] and judge_result(result_of(measured), Budget(30)).outcome == "pass"


def test_clocks_of_which_one_side_is_denied_speak_neither_way(make_job: MakeJob) -> None:
    denied = DeviceState(cores=(Cluster((0, 1), UNKNOWN, 1_500_000), Cluster((2,), 2_800_000, UNKNOWN)))
    assert run(FakeMachine(steady), [make_job()], look=states(denied)).records[0].preconditions == ()


def test_every_sign_of_heat_before_the_first_launch_is_told(make_job: MakeJob) -> None:
    warm = DeviceState(thermal=Thermal(status=1), cores=HELD.cores)
    machine = FakeMachine(steady)
    measured = run(machine, [make_job()], Plan(cooldown_limit_s=0), look=states(warm))
    assert measured.records[0].preconditions == ("thermal status 1, 0 is wanted", SAID)


def test_a_lost_phone_leaves_what_was_measured(make_job: MakeJob) -> None:
    lost = DeviceLost("device FAKE is gone", serial="FAKE")
    machine = FakeMachine(lambda argv, number: lost if number == 3 else benchmark_text(20))
    measured = run(machine, [make_job()])
    result = result_of(measured)
    assert measured.error is lost and len(result["launches"]) == 3 and result["lost"] == "device FAKE is gone"
    verdict = judge_result(result, Budget(30))
    assert (verdict.outcome, verdict.verdict, verdict.exit_code) == ("lost", "inconclusive", 6)


def test_a_phone_that_hangs_is_lost(make_job: MakeJob) -> None:
    machine = FakeMachine(lambda argv, number: CommandTimeout("still running", serial="FAKE"))
    measured = run(machine, [make_job()])
    assert judge_result(result_of(measured), Budget(30)).exit_code == 6


def test_a_crash_is_kept_and_ends_that_artifact_only(make_job: MakeJob) -> None:
    crash = Completed(139, b"", b"loading\n")
    machine = FakeMachine(lambda argv, number: crash if "0-m.tflite" in str(argv) else benchmark_text(20))
    measured = run(machine, [make_job(title="A"), make_job(title="B")])
    first, second = result_of(measured, 0), result_of(measured, 1)
    assert [launch["refused"] for launch in first["launches"]] == ["crashed"] and first["latency_ms"] is None
    assert "SIGSEGV" in first["refusals"][0]["text"] and judge_result(first, Budget(30)).exit_code == 7
    assert judge_result(second, Budget(30)).outcome == "pass"


def test_a_gpu_time_with_the_sentence_is_proved(make_job: MakeJob) -> None:
    machine = FakeMachine(lambda argv, number: benchmark_text(14, 15, GPU))
    result = result_of(run(machine, [make_job(accelerator="gpu")]))
    assert result["accelerator_proved"] and "completely executed" in result["proof"]
    assert judge_result(result, Budget(30)).outcome == "pass"


def test_a_gpu_time_without_it_is_inconclusive_however_fast(make_job: MakeJob) -> None:
    result = result_of(run(FakeMachine(steady), [make_job(accelerator="gpu")]))
    assert not result["accelerator_proved"] and len(result["launches"]) == 1
    verdict = judge_result(result, Budget(30))
    assert verdict.outcome == "inconclusive" and verdict.reasons[0].startswith("gpu-not-proved")


def test_noise_is_inconclusive(make_job: MakeJob) -> None:
    machine = FakeMachine(lambda argv, number: benchmark_text(10 + 2 * number))
    verdict = judge_result(result_of(run(machine, [make_job()])), Budget(30))
    assert verdict.outcome == "inconclusive" and verdict.reasons[0].startswith("noisy")


def benchncnn(ms: float, threads: int) -> bytes:
    head = f"loop_count = 50\nnum_threads = {threads}\npowersave = 3\ngpu_device = -1\n"
    return f"{head}  m.param  min = {ms:7.2f}  max = {ms:7.2f}  avg = {ms:7.2f}\n".encode()


@pytest.mark.parametrize(("many_ms", "outcome"), [(9.0, "pass"), (20.0, "inconclusive")])
def test_benchncnn_without_openmp_is_found_out(many_ms: float, outcome: str, make_job: MakeJob) -> None:
    def answer(argv: Sequence[str], number: int) -> Completed:
        threads = int(argv[4])
        return Completed(0, b"", benchncnn(20.5 if threads == 1 else many_ms, threads))

    machine = FakeMachine(answer)
    result = result_of(run(machine, [make_job(runtime="ncnn")]))
    assert len(machine.commands) == 8 and len(result["launches"]) == 7, "the launch with one thread is no measurement"
    assert judge_result(result, Budget(30)).outcome == outcome
    assert [entry["name"] for entry in result["refusals"]] == ([] if outcome == "pass" else ["threads-without-openmp"])


def test_an_ncnn_file_of_another_shape_is_never_launched(make_job: MakeJob) -> None:
    job = make_job(runtime="ncnn")
    job.files[0].write_text("Input image 0 1 image 0=24 1=32 2=3\n")
    machine = FakeMachine(steady)
    result = result_of(run(machine, [job]))
    assert machine.commands == [] and result["refusals"][0]["name"] == "wrong-shape"
    assert judge_result(result, Budget(30)).exit_code == 7


def test_sustained_goes_minute_by_minute_at_30_hz(make_job: MakeJob) -> None:
    plan = Plan(sustained_s=150)
    machine = FakeMachine(lambda argv, number: benchmark_text(20, 20 if number < 8 else 40))
    result = result_of(run(machine, [make_job()], plan), plan=plan)
    minutes = machine.commands[7:]
    assert all("--run_frequency=30" in argv for argv in minutes)
    assert [next(word for word in argv if word.startswith("--min_secs")) for argv in minutes] == [
        *("--min_secs=60", "--min_secs=60", "--min_secs=30")
    ]
    assert [entry["minute"] for entry in result["sustained"]] == [1, 2, 3]
    verdict = judge_result(result, Budget(30))
    assert verdict.outcome == "fail" and "minute 2 (40.00 ms), 3 (40.00 ms)" in verdict.reasons[0]


def test_lost_in_the_sustained_part_is_lost(make_job: MakeJob) -> None:
    plan = Plan(sustained_s=120)
    lost = DeviceLost("gone")
    machine = FakeMachine(lambda argv, number: lost if number == 8 else benchmark_text(20))
    measured = run(machine, [make_job()], plan)
    assert measured.records[0].lost == "gone" and len(measured.records[0].sustained) == 1


def test_measuring_needs_neither_torch_nor_the_exporter() -> None:
    code = (
        "import sys, android_bench.measure; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'mobile_matting_export', 'ncnn', 'rich')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
