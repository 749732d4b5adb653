"""The demo times artifacts fairly and fails in one sentence."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from mobile_matting_export import demo
from mobile_matting_export.artifact import read_artifact
from mobile_matting_export.errors import QualityError


class Sleeper:
    """A session that takes a known time and notes when it was called."""

    def __init__(self, name: str, seconds: float, log: list[str]) -> None:
        self.name, self.seconds, self.log = name, seconds, log

    def run(self, inputs: object) -> dict:
        self.log.append(self.name)
        time.sleep(self.seconds)
        return {}

    def close(self) -> None: ...


def test_sessions_take_turns_and_their_medians_are_told_apart() -> None:
    log: list[str] = []
    slow, fast = demo.time_sessions([Sleeper("a", 0.01, log), Sleeper("b", 0.001, log)], [{}, {}], rounds=5)
    assert log == ["a", "b"] * (len(log) // 2) and len(log) > 10
    assert slow >= 10 > fast >= 1


def test_an_expected_failure_is_a_sentence_and_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise QualityError("the matte differs")

    monkeypatch.setattr(demo, "run_demo", fail)
    outcome = CliRunner().invoke(demo.main, ["--output", str(tmp_path)])
    assert outcome.exit_code == 4
    assert outcome.stderr == "the matte differs\n" and outcome.stdout == ""


@pytest.mark.toolchain
def test_demo_makes_five_verified_artifacts_and_a_page(tmp_path: Path) -> None:
    shown = io.StringIO()
    page = demo.run_demo(tmp_path, Console(file=shown, width=160), Console(stderr=True, quiet=True))

    folders = sorted(folder.name for folder in (tmp_path / "mmnet").iterdir())
    assert folders == ["ncnn-cpu-fp16", "ncnn-vulkan-fp16", "onnx-fp32", "tflite-cpu-fp32", "tflite-gpu-fp16"]
    for folder in folders:
        assert read_artifact(tmp_path / "mmnet" / folder).manifest["parity"]["passed"] is True
        assert folder.rpartition("-")[0] in shown.getvalue()
    assert page == tmp_path / "demo" / "index.html"
    # two pictures: as taken, PyTorch's alpha, and a composite and an alpha of each artifact
    assert page.read_text().count("<img") >= 2 * (2 + 2 * len(folders))
