"""``mmexport trade-off`` on real artifacts: its table, its JSON, its page, its refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli.test_match_report import report, result

from mobile_matting_export.artifact import Artifact, read_artifact, write_json
from mobile_matting_export.cli.bench_jobs import files_sha256
from mobile_matting_export.cli.main import run

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
    page = tmp_path / "pages" / "trade-off.html"
    assert run(["trade-off", str(build), "--report", one, "--report", two, "--html", str(page), "--json"]) == 0
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


def test_without_a_report_this_computer_is_measured(build: Path, monkeypatch: Any, capsys: Any) -> None:
    asked: list[Any] = []

    def run_bench(artifacts: Sequence[Artifact], device: str, *rest: Any) -> dict[str, Any]:
        asked.append(([artifact.folder.name for artifact in artifacts], device))
        measured = report(*(result(files_sha256(artifact.manifest)) for artifact in artifacts))
        return measured | {"device": {"serial": "host", "soc": "A processor"}}

    monkeypatch.setattr("mobile_matting_export.cli.bench_run.run_bench", run_bench)
    names = [str(build / name) for name in ("tflite-cpu-w8", "onnx-fp32", "tflite-cpu-w8")]
    assert run(["trade-off", *names]) == 0
    out, err = capsys.readouterr()
    assert asked == [(["tflite-cpu-w8"], "host")]
    assert "p50, host, A processor" in out and "20.00 ms" in out and "not measured" in out
    assert out.index("tflite-cpu w8") < out.index("onnx fp32")
    assert "is not timed on host: there is no runner for onnx" in err


def test_what_cannot_be_compared_exits_2_before_anything_runs(build: Path, tmp_path: Path, capsys: Any) -> None:
    other = write_report(tmp_path / "other.json", build / "onnx-fp32")
    fp32 = str(build / "tflite-cpu-fp32")
    for words, says in (
        ([fp32, "--report", other], "measured other files"),
        ([fp32, "--report", str(tmp_path / "none.json")], "does not exist"),
        ([str(tmp_path)], "has no manifest.json"),
    ):
        assert run(["trade-off", *words]) == 2
        err = capsys.readouterr().err
        assert says in err and "comparing" not in err


def test_an_artifact_whose_weights_are_gone_has_latency_and_size(build: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(build / "tflite-cpu-fp32", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["network"]["checkpoint"] = {"file": "gone.pt", "sha256": "0" * 64}
    manifest["network"]["name"] = "mine"
    write_json(folder / "manifest.json", manifest)
    words = ["trade-off", str(folder), "--report", write_report(tmp_path / "r.json", folder)]
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert "10.00 ms" in out and "not compared" in out and "gone.pt" in err
    assert run([*words, "--checkpoint", str(tmp_path / "r.json")]) == 2
    assert "is not the checkpoint" in capsys.readouterr().err
