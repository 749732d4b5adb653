"""Flags of ``convert`` that no target asked for has a use for end with exit code 2, before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mobile_matting_export.cli.main import run


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith("MMEXPORT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-t", "tflite-cpu", "--allow-fallback"], "tflite-cpu has none"),
        (["-t", "ncnn-vulkan", "-t", "onnx", "--allow-fallback"], "ncnn-vulkan, onnx has none"),
        (["-t", "onnx,tflite-cpu", "--backend", "onnx2tf"], "is for TFLite targets only"),
    ],
)
def test_a_flag_that_no_target_has_a_use_for_is_refused(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", *flags]) == 2
    out, err = capsys.readouterr()
    assert words in err and out == "" and not Path("build").exists()


@pytest.mark.parametrize("flags", [["-t", "tflite-gpu"], ["-t", "onnx", "-t", "tflite-gpu"]])
def test_beside_the_target_with_the_delegate_it_is_taken(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "no-such-network", *flags, "--allow-fallback"]) == 2
    assert "no-such-network" in capsys.readouterr().err


def test_what_the_configuration_or_the_environment_allows_need_not_concern_this_target(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mmexport.toml").write_text("allow_fallback = true\n")
    assert run(["convert", "no-such-network", "-t", "onnx"]) == 2
    assert "no-such-network" in capsys.readouterr().err
    Path("mmexport.toml").unlink()
    monkeypatch.setenv("MMEXPORT_ALLOW_FALLBACK", "1")
    assert run(["convert", "no-such-network", "-t", "onnx"]) == 2
    assert "no-such-network" in capsys.readouterr().err
