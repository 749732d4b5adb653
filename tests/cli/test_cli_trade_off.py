"""``mmexport trade-off`` on real artifacts: its table, its JSON, its page, its refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli.test_match_report import report, result

from android_bench.errors import NoDevice
from mobile_matting_export.artifact import Artifact, file_sha256, read_artifact, write_json
from mobile_matting_export.cli.bench_jobs import files_sha256
from mobile_matting_export.cli.main import run
from mobile_matting_export.errors import ConversionError, QualityError, UsageError

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    for words in (["-t", "tflite-cpu", "-t", "onnx"], ["-t", "tflite-cpu", "-p", "w8"]):
        assert run(["convert", "ldn_fb", *words, "-o", str(folder), "-q"]) == 0
    return folder / "ldn_fb"


def write_report(path: Path, *artifacts: Path) -> str:
    sums = [files_sha256(read_artifact(artifact).manifest) for artifact in artifacts]
    write_json(path, report(*(result(sha256, 10.0 + number) for number, sha256 in enumerate(sums))))
    return str(path)


def test_reports_give_latency_and_the_page_is_written(build: Path, tmp_path: Path, capsys: Any) -> None:
    one = write_report(tmp_path / "one.json", build / "tflite-cpu-fp32", build / "tflite-cpu-w8")
    two = write_report(tmp_path / "two.json", build / "tflite-cpu-w8")
    page = tmp_path / "trade-off.html"
    assert (
        run(["trade-off", str(build), "--latency-from", one, "--latency-from", two, "--html", str(page), "--json"]) == 0
    )
    out, err = capsys.readouterr()
    told = json.loads(out)
    # those of a folder: by target, then float before eight bits
    assert [entry["label"] for entry in told["artifacts"]] == ["onnx fp32", "tflite-cpu fp32", "tflite-cpu w8"]
    first, second = ([time and time["p50"] for time in report["latencies"]] for report in told["latency"])
    assert (first, second) == ([None, 10.0, 11.0], [None, None, 10.0])
    onnx, fp32, w8 = (entry["error"] for entry in told["artifacts"])
    assert max(onnx["mad_band"], fp32["mad_band"]) < 1e-5 < w8["mad_band"] and w8["worst"]
    assert told["html"] == str(page) and page.read_text().count("<svg") == 3
    assert f"two.json has no latency of {build / 'tflite-cpu-fp32'}" in err and f"page: {page}" in err


@pytest.fixture
def benched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was measured, without measuring: the folders' names and the device."""
    asked: list[Any] = []

    def run_bench(artifacts: Sequence[Artifact], device: str, *rest: Any) -> dict[str, Any]:
        asked.append(([artifact.folder.name for artifact in artifacts], device))
        measured = report(*(result(files_sha256(artifact.manifest)) for artifact in artifacts))
        return measured | {"device": {"serial": "host", "soc": "A processor"}}

    monkeypatch.setattr("mobile_matting_export.cli.bench_run.run_bench", run_bench)
    return asked


def copy_with(folder: Path, place: Path, model: bytes | None = None, **changes: Any) -> Path:
    """A copy of an artifact with another model file or other fields in its manifest; None takes a field away."""
    shutil.copytree(folder, place)
    manifest = json.loads((place / "manifest.json").read_text()) | changes
    if model is not None:
        file = place / manifest["files"][0]["path"]
        file.write_bytes(model)
        manifest["files"][0] |= {"bytes": len(model), "sha256": file_sha256(file)}
    write_json(place / "manifest.json", {key: value for key, value in manifest.items() if value is not None})
    return place


def test_without_a_report_this_computer_is_measured(build: Path, benched: list[Any], capsys: Any) -> None:
    names = [str(build / name) for name in ("tflite-cpu-w8", "onnx-fp32", "tflite-cpu-w8")]
    assert run(["trade-off", *names]) == 0
    out, err = capsys.readouterr()
    assert benched == [(["tflite-cpu-w8"], "host")]
    assert "20.00 / 21.00, cpu x4" in out and "not measured" in out and "cpu (XNNPACK)" in out
    assert out.index("tflite-cpu w8") < out.index("onnx fp32")
    assert "is not timed on host: there is no runner for onnx" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--images", "/nonexistent"], "there is no such folder"),
        (["--checkpoint", __file__], "is not the checkpoint"),
        (["--network", "/nonexistent.py:build"], "/nonexistent.py"),
        (["--html", "/"], "cannot write /: it is a folder; choose another --html"),
        (["--html", f"{__file__}/page.html"], "is a file; choose another --html"),
        (["--html", "/nonexistent/dir/page.html"], "there is no folder /nonexistent/dir; choose another --html"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_wrong_with_a_flag_is_told_before_anything_is_measured(
    build: Path, benched: list[Any], capsys: Any, words: list[str], says: str
) -> None:
    assert run(["trade-off", str(build / "tflite-cpu-fp32"), *words]) != 0
    out, err = capsys.readouterr()
    assert says in err and "defect" not in err and not out and not benched


def test_a_phone_that_is_not_there_is_told_before_anything_is_computed(
    build: Path, benched: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def find_phone(serial: str) -> str:
        raise NoDevice(f"no phone {serial}")

    monkeypatch.setattr("android_bench.adb.find_phone", find_phone)
    assert run(["trade-off", str(build / "tflite-cpu-fp32"), "--device", "R5CX"]) == NoDevice.exit_code
    err = capsys.readouterr().err
    assert "no phone R5CX" in err and "in PyTorch" not in err and not benched


@pytest.mark.parametrize(
    "failure", ["a damaged file", QualityError("wrong shape"), ConversionError("no Vulkan device")]
)
def test_one_artifact_that_fails_costs_no_other_its_row(
    build: Path, tmp_path: Path, benched: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any, failure: Any
) -> None:
    bad = copy_with(build / "tflite-cpu-w8", tmp_path / "bad", b"no model" if isinstance(failure, str) else None)
    if not isinstance(failure, str):
        from mobile_matting_export import score_artifact as module

        def judge(file_format: Any, files: tuple[Path, ...], *rest: Any) -> Any:
            if files[0].parent == bad:
                raise failure
            return judge_files(file_format, files, *rest)

        judge_files = module.judge_files
        monkeypatch.setattr(module, "judge_files", judge)
    page = tmp_path / "page.html"
    words = ["trade-off", str(bad), str(build / "tflite-cpu-fp32"), "--html", str(page)]
    assert run([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    first, second = json.loads(out)["artifacts"]
    assert first["error"] is None and first["why_no_error"].startswith("it does not run here: ")
    assert isinstance(failure, str) or str(failure) in first["why_no_error"]
    assert second["error"]["mad_band"] < 1e-5 and len(benched) == 1
    assert f"{bad} is not compared with its network: it does not run here" in err
    assert "it does not run here" in page.read_text()


def test_a_page_that_fails_leaves_the_result(
    build: Path, tmp_path: Path, benched: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def write(*_: Any) -> None:
        raise UsageError("cannot write it: the disk is full; choose another --html")

    monkeypatch.setattr("mobile_matting_export.report.trade_off_page.write_trade_off_page", write)
    page = str(tmp_path / "page.html")
    assert run(["trade-off", str(build / "tflite-cpu-fp32"), "--html", page, "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["latency"][0]["latencies"][0]["p50"] == 20.0
    assert "the disk is full" in err and "page:" not in err


def test_a_manifest_that_lacks_a_field_is_no_defect(
    build: Path, tmp_path: Path, benched: list[Any], capsys: Any
) -> None:
    old = copy_with(build / "tflite-cpu-fp32", tmp_path / "old", mode=None)
    assert run(["trade-off", str(old), str(build / "tflite-cpu-w8")]) == 2
    assert f"the manifest of {old} lacks 'mode': convert the network again" in capsys.readouterr().err
    assert not benched


def test_a_gpu_artifact_timed_here_is_marked(build: Path, tmp_path: Path, benched: list[Any], capsys: Any) -> None:
    gpu = copy_with(build / "tflite-cpu-fp32", tmp_path / "gpu", target="tflite-gpu", accelerator="gpu", mode="gpu")
    assert run(["trade-off", str(gpu), str(build / "tflite-cpu-fp32"), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["latency"][0]["latencies"]
    assert (first["on"], second["on"], second["doubts"]) == ("cpu x4", "cpu x4", [])
    assert "was timed on the cpu, but is made for the gpu" in first["doubts"][0]


def test_what_cannot_be_compared_exits_2_before_anything_runs(build: Path, tmp_path: Path, capsys: Any) -> None:
    other = write_report(tmp_path / "other.json", build / "onnx-fp32")
    fp32 = str(build / "tflite-cpu-fp32")
    for words, says in (
        ([fp32, "--latency-from", other], "measured other files"),
        ([fp32, "--latency-from", str(tmp_path / "none.json")], "does not exist"),
        ([str(tmp_path)], "has no manifest.json"),
    ):
        assert run(["trade-off", *words]) == 2
        err = capsys.readouterr().err
        assert says in err and "comparing" not in err


def test_a_folder_of_networks_folders_is_taken_where_it_holds_one_network(
    build: Path, tmp_path: Path, benched: list[Any], capsys: Any
) -> None:
    shutil.copytree(build / "tflite-cpu-fp32", tmp_path / "ldn_fb" / "tflite-cpu-fp32")
    (tmp_path / "fit").mkdir()
    assert run(["trade-off", str(tmp_path)]) == 0
    assert benched == [(["tflite-cpu-fp32"], "host")]
    for name in ("mmnet", "a_net"):
        shutil.copytree(build / "tflite-cpu-w8", tmp_path / name / "tflite-cpu-w8")
    capsys.readouterr()
    assert run(["trade-off", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert f"{tmp_path} holds a_net, ldn_fb and mmnet: a trade-off is between artifacts of one network" in err
    assert f"name one, as {tmp_path / 'a_net'}" in err and not out and len(benched) == 1


def test_an_artifact_whose_weights_are_gone_has_latency_and_size(build: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(build / "tflite-cpu-fp32", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["network"]["checkpoint"] = {"file": "gone.pt", "sha256": "0" * 64}
    manifest["network"]["name"] = "mine"
    write_json(folder / "manifest.json", manifest)
    words = ["trade-off", str(folder), "--latency-from", write_report(tmp_path / "r.json", folder)]
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert "10.00 / 11.00, cpu x4" in out and "not compared" in out and "gone.pt" in err
    assert run([*words, "--checkpoint", str(tmp_path / "r.json")]) == 2
    assert "is not the checkpoint" in capsys.readouterr().err
