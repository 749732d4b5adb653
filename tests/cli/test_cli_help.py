"""Every command explains itself, help answers at once, and settings take effect in the stated order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

import mobile_matting_export
from mobile_matting_export.cli.main import COMMANDS, cli, run
from mobile_matting_export.networks.spec import Head

ROOT = Path(mobile_matting_export.__file__).resolve().parent.parent
HEAVY = {"torch", "numpy", "rich", "PIL", "onnx", "ncnn", "onnxruntime", "cv2", "jinja2", "safetensors"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MMEXPORT_")} | {
    "PYTHONPATH": str(ROOT)
}
# help may cost this many times what a bare interpreter with click costs
MOST = 4
commands = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


@commands
def test_every_command_has_help(command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.name is not None
    assert run([command.name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: mmexport {command.name}")
    first = (command.help or "").strip().splitlines()[0]
    assert first.endswith(".") and len(first) > 20
    for flag in ("--json", "--quiet", "--verbose", "--help"):
        assert flag in out


@commands
def test_every_option_has_help_and_every_argument_is_explained(command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
        else:
            assert parameter.name is not None and parameter.name.upper() in (command.help or ""), parameter.name


@commands
def test_commands_that_take_arguments_show_an_example(command: click.Command) -> None:
    if any(isinstance(parameter, click.Argument) for parameter in command.params):
        assert f"  mmexport {command.name} " in (command.help or "")


def test_the_commands_are_listed_with_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command.name} " in out for command in COMMANDS)
    assert "2 usage or unreadable input" in out and "4 quality gate missed" in out
    assert set(cli.commands) == {command.name for command in COMMANDS}


def test_short_help_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-h"]) == 0
    short = capsys.readouterr().out
    assert run(["--help"]) == 0
    assert capsys.readouterr().out == short


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert mobile_matting_export.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "mobile_matting_export.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT)
    assert done.returncode == 0 and "mmexport" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported, "the probe sees imports"
    assert not {name for name in imported if name.partition(".")[0] in HEAVY}


def _seconds(arguments: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True, env=ENVIRONMENT, cwd=ROOT)
    return time.perf_counter() - begun


def test_help_answers_almost_as_fast_as_the_interpreter() -> None:
    bare, helped = [], []
    for _ in range(5):  # in turns, so that a busy machine slows both
        bare.append(_seconds(["-c", "import click"]))
        helped.append(_seconds(["-m", "mobile_matting_export.cli.main", "--help"]))
    assert min(helped) < MOST * min(bare), (bare, helped)


# --- flag over environment over file -----------------------------------------------------------------


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``convert`` would have loaded and converted, in an empty working folder."""
    seen: dict[str, Any] = {}

    def load(
        name: str, checkpoint: Path | None, size: tuple[int, int] | None, image: object, *described: Any
    ) -> SimpleNamespace:
        seen.update(network=name, checkpoint=checkpoint, size=size, image=image, head=described[0])
        return SimpleNamespace(spec=SimpleNamespace(head=Head("alpha"), state=()))

    def convert(network: SimpleNamespace, job: Any, announce: object) -> list[Any]:
        assert network.spec.head == Head("alpha")
        seen.update(job=job, targets=[target.name for target in job.targets])
        return []

    monkeypatch.setattr("mobile_matting_export.network.load_network", load)
    monkeypatch.setattr("mobile_matting_export.convert.convert_network", convert)
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("MMEXPORT_")]:
        monkeypatch.delenv(variable)
    return seen


FILE = """
target = ["tflite-cpu", "ncnn-cpu"]
precision = "fp16"
output = "from_file"
max-error = 0.5
images = "pictures"

[network]
name = "mine.py:build"
checkpoint = "mine.pt"
size = [64, 96]
mean = [1, 2.5, 3]
scale = "1/255"
color = "BGR"
resize = "letterbox"
fill = 128
head = "logits"
"""


def test_without_settings_the_defaults_hold(converted: dict[str, Any]) -> None:
    assert run(["convert", "-t", "onnx"]) == 0
    job = converted["job"]
    assert (converted["network"], converted["checkpoint"], converted["size"]) == ("mmnet", None, None)
    assert converted["image"] is None and converted["targets"] == ["onnx"]
    assert (job.output, job.precision, job.max_error, job.max_mad) == (Path("build"), None, None, None)
    assert (job.images, job.backend, job.overwrite) == (None, "litert-torch", "ours")


@pytest.mark.parametrize("home", ["mmexport.toml", "pyproject.toml"])
def test_the_file_gives_every_setting(converted: dict[str, Any], home: str) -> None:
    text = FILE
    if home == "pyproject.toml":
        text = "[tool.mmexport]" + FILE.replace("[network]", "[tool.mmexport.network]")
    Path(home).write_text(text)
    assert run(["convert"]) == 0
    job, image = converted["job"], converted["image"]
    assert (converted["network"], converted["checkpoint"]) == ("mine.py:build", Path("mine.pt"))
    assert converted["size"] == (64, 96) and converted["targets"] == ["tflite-cpu", "ncnn-cpu"]
    assert (image.color, image.mean, image.scale) == ("BGR", (1, 2.5, 3), (1 / 255,) * 3)
    assert (image.resize, image.fill) == ("letterbox", 128)
    assert converted["head"] == "logits"
    assert (job.precision, job.output, job.max_error, job.images) == (
        "fp16",
        Path("from_file"),
        0.5,
        Path("pictures"),
    )


def test_the_environment_wins_over_the_file(converted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mmexport.toml").write_text(FILE)
    for name, value in {
        "NETWORK": "modnet",
        "TARGET": "onnx tflite-gpu",
        "CHECKPOINT": "env.pt",
        "PRECISION": "fp32",
        "SIZE": "32x48",
        "OUTPUT": "from_environment",
        "MAX_ERROR": "0.25",
        "IMAGES": "photos",
    }.items():
        monkeypatch.setenv(f"MMEXPORT_{name}", value)
    assert run(["convert"]) == 0
    job = converted["job"]
    assert (converted["network"], converted["checkpoint"]) == ("modnet", Path("env.pt"))
    assert converted["size"] == (32, 48) and converted["targets"] == ["onnx", "tflite-gpu"]
    assert (job.precision, job.output, job.max_error, job.images) == (
        "fp32",
        Path("from_environment"),
        0.25,
        Path("photos"),
    )


def test_flags_win_over_the_environment(converted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mmexport.toml").write_text(FILE)
    for name, value in {"PRECISION": "fp16", "TARGET": "onnx", "SIZE": "32x48", "NETWORK": "modnet"}.items():
        monkeypatch.setenv(f"MMEXPORT_{name}", value)
    line = "convert ldn_fb -t ncnn-vulkan -p fp32 --size 128 --color rgb -o here --force"
    assert run(line.split()) == 0
    job = converted["job"]
    assert converted["network"] == "ldn_fb" and converted["targets"] == ["ncnn-vulkan"]
    assert converted["size"] == (128, 128) and converted["image"].color == "RGB"
    assert (job.precision, job.output, job.overwrite) == ("fp32", Path("here"), "anything")
    assert job.max_error == 0.5, "what no flag and no variable says stays as the file says"


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_what_the_file_says_of_its_network_is_not_said_of_another(
    converted: dict[str, Any], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    Path("mmexport.toml").write_text(FILE)
    if way == "variable":
        monkeypatch.setenv("MMEXPORT_NETWORK", "ldn_fb")
    assert run(["convert", *(["ldn_fb"] if way == "flag" else [])]) == 0
    assert (converted["network"], converted["checkpoint"], converted["size"]) == ("ldn_fb", None, None)
    assert converted["image"] is None and converted["head"] is None
    assert converted["targets"] == ["tflite-cpu", "ncnn-cpu"], "what it says of the job stays"


def test_broken_file_stops_convert_and_nothing_else(converted: dict[str, Any]) -> None:
    Path("pyproject.toml").write_text("[tool.mmexport\n")
    assert run(["convert", "--help"]) == 0
    assert run(["targets", "-q"]) == 0
    assert run(["convert", "-t", "onnx"]) == 2


def test_calibration_without_int8_is_refused(converted: dict[str, Any]) -> None:
    assert run(["convert", "-t", "onnx", "--calibration", "pictures"]) == 2


def test_a_target_named_twice_is_made_once(converted: dict[str, Any]) -> None:
    assert run(["convert", "-t", "onnx", "-t", "tflite-gpu", "-t", "onnx"]) == 0
    assert converted["targets"] == ["onnx", "tflite-gpu"]


def test_one_target_in_the_file_needs_no_list(converted: dict[str, Any]) -> None:
    Path("mmexport.toml").write_text('target = "onnx"\nnetwork = "ldn_fb"\n')
    assert run(["convert"]) == 0
    assert converted["network"] == "ldn_fb" and converted["targets"] == ["onnx"]


def test_a_pyproject_of_other_tools_is_no_setting(converted: dict[str, Any]) -> None:
    Path("pyproject.toml").write_text("[tool.ruff]\nline-length = 120\n")
    assert run(["convert", "-t", "onnx"]) == 0
    assert converted["network"] == "mmnet"


@pytest.mark.parametrize("arguments", [["targets"], ["networks"], ["convert", "-t", "onnx"]])
def test_with_json_the_result_is_one_object(
    converted: dict[str, Any], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)
