"""``bench``, ``gate``, ``compare`` and ``runners`` on the command line: reports, files, exit codes, JSON."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import mobile_matting_export
from mobile_matting_export.artifact import read_artifact, write_json
from mobile_matting_export.cli.bench_jobs import find_artifacts, make_job, write_frame
from mobile_matting_export.cli.bench_run import make_request, with_defaults
from mobile_matting_export.cli.list_runners import list_runners
from mobile_matting_export.cli.main import run
from mobile_matting_export.errors import UsageError
from mobile_matting_export.result_cache import usual_folder

ROOT = Path(mobile_matting_export.__file__).resolve().parent.parent
PARAM = "7767517\n2 2\nInput image 0 1 image 0=48 1=64 2=3\nSigmoid s 1 1 image alpha\n"
NOISE = (0.0, 0.2, -0.1, 0.1, -0.2, 0.3, -0.3)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith(("MMEXPORT_", "ANDROID_", "ADB_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def artifact(folder: Path, target: str = "ncnn-cpu", contents: str = PARAM) -> Path:
    """A folder as convert writes it; the network is one Sigmoid."""
    folder.mkdir(parents=True)
    names = ["net.param", "net.bin"] if target.startswith("ncnn") else [f"net.{target.partition('-')[0]}"]
    (folder / names[0]).write_text(contents)
    if len(names) == 2:
        (folder / names[1]).write_bytes(b"")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    nchw = not target.startswith("tflite")
    tensor = {"layout": "NCHW" if nchw else "NHWC", "dtype": "float32"}
    write_json(
        folder / "manifest.json",
        {
            "schema": "mmexport.manifest/1",
            "network": {"name": "net"},
            "target": target,
            "precision": "fp32",
            "accelerator": "gpu" if target.endswith(("gpu", "vulkan")) else "cpu",
            "inputs": [tensor | {"name": "image", "shape": [1, 3, 64, 48] if nchw else [1, 64, 48, 3]}],
            "outputs": [tensor | {"name": "alpha", "shape": [1, 3, 64, 48] if nchw else [1, 64, 48, 3]}],
            "files": [{"path": name, "bytes": (folder / name).stat().st_size, "sha256": sums[name]} for name in names],
            "parity": {"max_abs": 0.01, "mad": 0.001, "limits": {"max_abs": 0.1, "mad": 0.002}},
            "cost": {"params": 0, "macs": 9216, "ops": 1},
        },
    )
    return folder


def report(path: Path, ms: float, **changed: Any) -> Path:
    launches = [{"median_ms": ms + noise, "p90_ms": ms + noise + 1} for noise in NOISE]
    values = {"title": "net ncnn-cpu-fp32", "accelerator": "cpu", "accelerator_proved": True, "launches": launches}
    device = {"serial": "R5CX", "model": "Demo 8", "soc": "SM8550"}
    write_json(path, {"schema": "mmexport.bench/1", "device": device, "results": [values | changed], "gate": None})
    return path


def test_8_bit_ends_are_told_to_the_job_and_frames_are_stored_so(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "a", "tflite-cpu", "TFL3")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"][0] |= {"dtype": "int8", "quantization": {"scale": 0.5, "zero_point": -3}}
    write_json(folder / "manifest.json", manifest)
    job = make_job(read_artifact(folder), None)
    image = job.inputs[0]
    assert (image.dtype, image.scale, image.zero_point) == ("int8", 0.5, -3)
    assert (job.output.dtype, job.output.scale, job.output.zero_point) == ("float32", 1, 0)

    frame = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    stored = np.fromfile(write_frame(tmp_path / "frame.raw", frame, image), np.int8)
    assert stored.tolist() == (2 * frame.transpose(0, 2, 3, 1).ravel() - 3).tolist()
    real = np.fromfile(write_frame(tmp_path / "frame.raw", frame, image.as_real()), np.float32)
    assert real.tolist() == frame.transpose(0, 2, 3, 1).ravel().tolist()


def test_a_job_says_what_the_manifest_says(tmp_path: Path) -> None:
    opened = read_artifact(artifact(tmp_path / "a", "tflite-gpu", "TFL3"))
    job = make_job(opened, None)
    assert (job.title, job.runtime, job.accelerator, job.macs) == ("net tflite-gpu-fp32", "tflite", "gpu", 9216)
    assert job.inputs[0].name == "matte_image" and job.inputs[0].shape == (1, 64, 48, 3)
    assert job.outputs == (job.output,) and job.output.name == "alpha"
    assert job.sha256 == opened.manifest["files"][0]["sha256"] and make_job(opened, "cpu").accelerator == "cpu"


def test_without_names_all_under_the_output_folder_are_taken(tmp_path: Path) -> None:
    for target in ("ncnn-cpu", "onnx"):
        artifact(tmp_path / "build" / "net" / target, target)
    taken, left = find_artifacts([], tmp_path / "build")
    assert [entry.manifest["target"] for entry in taken] == ["ncnn-cpu"]
    assert left == ["net onnx-fp32: no phone runner for onnx"]
    with pytest.raises(UsageError, match="no phone runner for onnx"):
        find_artifacts([str(tmp_path / "build" / "net" / "onnx")], tmp_path)
    with pytest.raises(UsageError, match="no artifact under"):
        find_artifacts([], tmp_path / "nowhere")


@pytest.mark.toolchain
def test_bench_on_this_computer_measures_judges_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact(tmp_path / "build" / "net" / "ncnn-cpu-fp32")
    files = ["--report", "r.json", "--junit", "r.xml", "--markdown", "r.md"]
    code = run(["bench", "--device", "host", "--min-fps", "30", "--json", "--launches", "5", *files])
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told == json.loads(Path("r.json").read_text()) and told["schema"] == "mmexport.bench/1"
    (result,) = told["results"]
    assert told["device"]["serial"] == "host" and len(result["launches"]) == 5
    assert {"state_before", "state_after", "cores", "soc", "abi"} <= set(told["device"])
    low, high = result["latency_ms"]["ci95"]
    assert 0 < low <= high and result["latency_ms"]["p50"] <= result["latency_ms"]["p90"]
    assert any(warning.startswith("host: ") for warning in result["warnings"])
    # a Sigmoid of 9216 values is far from 33 ms; on a busy computer its launches may differ too much to say
    assert told["gate"]["verdict"] == {0: "pass", 7: "inconclusive"}[code], told["gate"]
    assert err.count(", launch ") == 5
    assert "<testsuite " in Path("r.xml").read_text() and Path("r.md").read_text().startswith("## mmexport bench")
    assert run(["gate", "r.json", "--min-fps", "30", "-q"]) == code
    assert run(["gate", "r.json", "--min-fps", "100000", "-q"]) in (5, 7)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--device", "host", "--accelerator", "gpu"], 2, "no GPU delegate"),
        (["--device", "host", "--min-fps", "30", "--pre-post-ms", "40"], 2, "leave it nothing"),
        (["--device", "host", "--threads", "64"], 2, "gives us"),
        (["--device", "R5CX"], 2, "build it with the NDK"),
        (["--device", "R5CX", "--runner", "no-file"], 2, "no such file"),
        (["--device", "host", "--launches", "2"], 2, "range"),
    ],
)
def test_what_cannot_be_measured_is_refused_before(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a phone that is there: a missing one is said first
    monkeypatch.setattr("android_bench.adb.find_phone", lambda serial, server=None: serial)
    artifact(tmp_path / "build" / "net" / "ncnn-cpu-fp32")
    assert run(["bench", *arguments]) == code
    assert words in capsys.readouterr().err


def test_a_missing_artifact_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "nowhere", "--device", "host", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


@pytest.mark.parametrize(
    ("ms", "changed", "code", "verdict"),
    [
        (20, {}, 0, "pass"),
        (40, {}, 5, "fail"),
        (32.3, {}, 7, "inconclusive"),
        (20, {"accelerator_proved": False}, 7, "inconclusive"),
        (20, {"lost": "cable"}, 6, "inconclusive"),
        (20, {"parity": {"passed": False, "max_abs": 0.9, "mad": 0.5}}, 4, "fail"),
    ],
)
def test_gate_has_the_documented_exit_codes(
    ms: float, changed: dict[str, Any], code: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report(Path("r.json"), ms, **changed)
    assert run(["gate", "r.json", "--min-fps", "30", "--json"]) == code
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["verdict"] == verdict and told["budget_ms"] == pytest.approx(1000 / 30)
    assert told["reports"][0]["results"][0]["verdict"] == verdict
    assert err == "" if code == 0 else told["reasons"][0] in err


def test_gate_judges_all_reports_and_a_missing_one_never_passes() -> None:
    report(Path("good.json"), 20)
    Path("foreign.json").write_text('{"results": []}')
    assert run(["gate", "good.json", "good.json", "--min-fps", "30", "-q"]) == 0
    assert run(["gate", "good.json", "none.json", "--min-fps", "30", "--junit", "j.xml", "-q"]) == 2
    assert 'errors="1"' in Path("j.xml").read_text()
    assert run(["gate", "foreign.json", "--min-fps", "30", "-q"]) == 2
    assert run(["gate", "--min-fps", "30"]) == 2 and run(["gate", "good.json"]) == 2


def test_a_file_that_is_no_report_has_one_sentence_and_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    report(Path("good.json"), 20), report(Path("gone.json"), 20, lost="cable")
    Path("foreign.json").write_text('{"results": []}')
    sentence = (
        "foreign.json is a JSON object of another tool (with results, without a schema), not a bench report: "
        "a bench report is the JSON file that `mmexport bench --report FILE` writes"
    )
    missing = "none.json does not exist: `mmexport bench --report none.json` makes it"
    files = ["--min-fps", "30", "--markdown", "r.md", "--junit", "r.xml"]
    assert run(["gate", "good.json", "foreign.json", "none.json", *files]) == 2
    out, err = capsys.readouterr()
    assert err.splitlines() == [f"mmexport: unreadable: {told}" for told in (sentence, missing)]
    assert len(out.splitlines()) == 2 and "json" not in out, "one report: a head and a row"
    text = Path("r.md").read_text()
    assert f"- **no report**: {sentence}\n- **no report**: {missing}\n" in text
    assert sum(line.startswith("|") for line in text.splitlines()) == 3, "one report, one row"
    errors = [case.find("error") for case in ElementTree.parse("r.xml").iter("testcase")]
    assert [None if error is None else error.get("message") for error in errors] == [None, sentence, missing]
    assert run(["gate", "foreign.json", "--min-fps", "30", "--json", "-q"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["reasons"] == told["reports"][0]["results"][0]["reasons"] == [sentence]
    assert run(["gate", "foreign.json", "--min-fps", "30", "--markdown", "r.md"]) == 2
    assert capsys.readouterr().out == "" and "|" not in Path("r.md").read_text()
    # a lost phone is graver, and hides no file
    assert run(["gate", "gone.json", "foreign.json", "--min-fps", "30"]) == 6
    assert f"mmexport: unreadable: {sentence}" in capsys.readouterr().err


@pytest.mark.parametrize(("new_ms", "code"), [(20.1, 0), (20.5, 0), (24.0, 5)])
def test_compare_of_reports_holds_a_limit(new_ms: float, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    report(Path("a.json"), 20), report(Path("b.json"), new_ms)
    assert run(["compare", "a.json", "b.json", "--json", "--max-slowdown", "8"]) == code
    (change,) = json.loads(capsys.readouterr().out)["changes"]
    assert change["verdict"] == ("slower" if code else "same")
    assert run(["compare", "a.json", "b.json", "-q"]) == 0, "without a limit it only tells"


def test_compare_that_cannot_tell_is_inconclusive() -> None:
    report(Path("a.json"), 20), report(Path("b.json"), 20, accelerator_proved=False)
    assert run(["compare", "a.json", "b.json", "--max-slowdown", "8", "-q"]) == 7
    assert run(["compare", "a.json", "none.json"]) == 2


def test_compare_of_artifacts_shows_their_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = artifact(tmp_path / "a"), artifact(tmp_path / "b", "tflite-cpu", "TFL3")
    assert run(["compare", str(one), str(two), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["base"]["target"] == "ncnn-cpu" and told["new"]["bytes"] == 4 and told["changes"] == []
    assert run(["compare", str(one), str(two)]) == 0
    report(tmp_path / "r.json", 20)
    assert run(["compare", str(one), "r.json"]) == 2 and run(["compare", "r.json", "r.json", "--device", "host"]) == 2
    assert run(["compare", str(one), str(two), "--max-slowdown", "5"]) == 2


@pytest.mark.toolchain
def test_compare_measures_two_artifacts_in_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = artifact(tmp_path / "a"), artifact(tmp_path / "b")
    assert run(["compare", str(one), str(two), "--device", "host", "--json"]) == 0
    out, err = capsys.readouterr()
    (change,) = json.loads(out)["changes"]
    assert change["base_ms"] > 0 and change["new_ms"] > 0 and err.count(", launch ") == 14


def test_runners_are_listed_with_how_to_get_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runners", "--json"]) == 0
    rows = {row["runner"]: row for row in json.loads(capsys.readouterr().out)["runners"]}
    assert list(rows) == ["tflite", "litert", "ncnn"] and all(row["path"] is None for row in rows.values())
    assert "mmexport runners fetch" in rows["litert"]["note"] and "NDK" in rows["ncnn"]["note"]


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_runners_are_kept_beside_earlier_results_on_every_system(
    platform: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    folder = usual_folder() / "runners"
    assert folder.is_relative_to(tmp_path)
    (folder / "ncnn").mkdir(parents=True)
    (folder / "ncnn" / "benchncnn").write_text("")
    assert {row["runner"]: row["path"] for row in list_runners()}["ncnn"] == str(folder / "ncnn" / "benchncnn")
    assert make_request("R5CX", with_defaults({}), None).fetched == folder


def test_doctor_says_which_runners_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mobile_matting_export.doctor.examine", lambda parse_devices: [])
    Path("mine").mkdir()
    (Path("mine") / "benchncnn").write_text("")
    monkeypatch.setenv("MMEXPORT_RUNNERS", "mine")
    assert run(["doctor", "--json"]) == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert found["runner ncnn (for phones)"]["status"] == "ok"
    assert found["runner litert (for phones)"]["status"] == "warning"
    assert "mmexport runners fetch" in found["runner litert (for phones)"]["remedy"]


def test_runners_that_cannot_be_fetched_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runners", "fetch", "--base-url", "http://127.0.0.1:9"]) == 2
    assert "cannot be fetched" in capsys.readouterr().err


def test_help_of_bench_costs_little_more_than_the_interpreter() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    commands = {"bare": ["-c", "import click"], "help": ["-m", "mobile_matting_export.cli.main", "bench", "--help"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(5):  # in turns, so that a busy machine slows both
        for name, words in commands.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, check=True, env=environment)
            times[name].append(time.perf_counter() - begun)
    assert min(times["help"]) < 4 * min(times["bare"]), times
