"""``mmexport inspect`` on files: the table, the reasons, the JSON, the page, its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobile_matting_export.cli.main import run

NET = """7767517
3 3
Input in0 0 1 in0 0=8 1=8 2=4
ReLU relu 1 1 in0 a
{kind} last 1 1 a out0
"""


@pytest.fixture
def param(tmp_path: Path) -> Path:
    path = tmp_path / "net.param"
    path.write_text(NET.format(kind="Squeeze"))
    return path


def test_text_says_who_takes_what_and_what_helps(param: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(param)]) == 0
    out = capsys.readouterr().out
    assert "ncnn on Vulkan takes 1 of 2 operations, cut into 2 parts; the CPU computes the other 1" in out
    assert "Squeeze 1: ncnn on Vulkan has no Squeeze" in out
    assert "help: write it as Reshape" in out


def test_json_is_one_object_of_the_schema(param: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(param), "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "mmexport.inspection/1"
    assert [op["type"] for op in result["ops"]] == ["ReLU", "Squeeze"]
    (backend,) = result["backends"]
    assert (backend["name"], backend["outcome"], backend["refused"]) == ("vulkan", "partial", [1])
    verdict = result["ops"][1]["verdicts"]["vulkan"]
    assert not verdict["taken"] and verdict["remedy"] == "write it as Reshape"
    assert result["hazards"] == []


def test_page_is_written_beside(param: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert run(["inspect", str(param), "--html", str(page)]) == 0
    assert "Squeeze" in page.read_text(encoding="utf-8")
    assert str(page) in capsys.readouterr().err


def test_a_page_that_cannot_be_written_exits_2(param: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(param), "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "choose another --html" in capsys.readouterr().err


def test_a_param_without_weights_is_judged_with_a_caveat(param: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(param)]) == 0
    told = " ".join(capsys.readouterr().out.split())  # lines are wrapped
    assert "the CPU computes the other 1; judged by the .param alone, which runs nowhere without net.bin" in told


@pytest.mark.toolchain
def test_time_adds_columns_and_says_what_they_are(param: Path, capsys: pytest.CaptureFixture[str]) -> None:
    param.with_suffix(".bin").write_bytes(b"")
    param.write_text(NET.format(kind="Sigmoid"))
    assert run(["inspect", str(param), "--time", "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert all(op["ms"] > 0 for op in result["ops"]) and result["times"]["whole_ms"] > 0
    assert run(["inspect", str(param), "--time"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "ms here of time" in told and "the layers, timed one by one, add up to" in told


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--mean", "0"], "--mean and --scale belong together"),
        (["--mean", "0", "--scale", "1/255"], "hazards are looked for in .tflite files only"),
        (["--overlay", "{folder}"], "Model Explorer does not read"),
    ],
)
def test_flags_that_do_not_fit_the_file_exit_2(
    param: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(param), *(flag.format(folder=param.parent / "overlay") for flag in flags)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("content", ["hello", ""])
def test_a_bad_file_exits_2_in_plain_words(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.tflite"
    path.write_text(content)
    assert run(["inspect", str(path)]) == 2
    err = capsys.readouterr().err
    assert "neither a .tflite file" in err and "Traceback" not in err


def test_nothing_there_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
