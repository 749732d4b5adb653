"""Whatever a user gets wrong: the documented exit code, one helpful sentence, and nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mobile_matting_export
from mobile_matting_export.artifact import MANIFEST, SCHEMA, describe_files, write_json
from mobile_matting_export.bundled import bundled_weights
from mobile_matting_export.cli.main import run


@dataclass(frozen=True)
class Case:
    """A command line that fails: after ``prepare`` in an empty folder, with ``code`` and ``words`` on stderr."""

    command: str
    code: int
    words: str
    prepare: Callable[[Path], object] = lambda folder: None


def _truncated(folder: Path) -> None:
    torch.save({"weight": torch.ones(100)}, folder / "net.pt")
    (folder / "net.pt").write_bytes((folder / "net.pt").read_bytes()[:300])


def _pickled_module(folder: Path) -> None:
    torch.save(nn.Conv2d(3, 1, 1), folder / "net.pt")


def _weights_of_mmnet(folder: Path) -> None:
    weights = bundled_weights("mmnet")
    assert weights is not None
    (folder / "net.safetensors").write_bytes(weights.read_bytes())


def _foreign_output(folder: Path) -> None:
    (folder / "out" / "ldn_fb" / "onnx-fp32").mkdir(parents=True)
    (folder / "out" / "ldn_fb" / "onnx-fp32" / "thesis.tex").write_text("years of work")


def _config(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "mmexport.toml").write_text(text)


def _own_network(source: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "mine.py").write_text(source)


def _manifest(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / MANIFEST).write_text(text)


# what the toolchain itself refuses: one line, "mmexport: ..."
REFUSED = {
    "wrong_path": Case("convert ldn_fb -t onnx -o out -c gone.pt", 2, "checkpoint gone.pt does not exist"),
    "folder_for_file": Case("convert ldn_fb -t onnx -o out -c .", 2, "is a folder: name the file in it"),
    "truncated": Case("convert ldn_fb -t onnx -o out -c net.pt", 3, "net.pt cannot be read: it is trunc", _truncated),
    "empty": Case("convert -t onnx -o out -c net.pt", 3, "net.pt is empty", lambda f: (f / "net.pt").touch()),
    "pickled_module": Case(
        "convert ldn_fb -t onnx -o out -c net.pt",
        3,
        "(torch.nn.modules.conv.Conv2d), and unpickling would run code from the file. Where you trust it, load it "
        "with its own code and save only the tensors: torch.save(model.state_dict(), 'state_dict.pt')",
        _pickled_module,
    ),
    "wrong_network": Case(
        "convert ldn_fb -t onnx -o out -c net.safetensors", 3, "Its tensors fit mmnet.", _weights_of_mmnet
    ),
    "no_weights": Case("convert modnet -t onnx -o out", 2, "modnet has no bundled weights: give --checkpoint FILE"),
    "unknown_target": Case("convert -t tflitegpu -o out", 2, "did you mean tflite-gpu?"),
    "unknown_network": Case("convert mmnett -t onnx -o out", 2, "did you mean mmnet?"),
    "unknown_precision": Case(
        "convert -t tflite-cpu -p fp8 -o out", 2, "--precision fp8: there is no such precision (offered: fp32, fp16"
    ),
    "int8_on_gpu": Case("convert -t tflite-gpu -p int8 -o out", 2, "int8 is for CPUs"),
    "int8_on_vulkan": Case("convert -t ncnn-vulkan -p int8 -o out", 2, "(offered: fp16, fp32)"),
    "half_onnx": Case("convert -t onnx -p fp16 -o out", 2, "onnx is for interchange"),
    "size_not_divisible": Case("convert mmnet -t onnx --size 250x256 -o out", 2, "--size 256x256"),
    "no_target": Case("convert mmnet -o out", 2, "--target: tflite-cpu, tflite-gpu, ncnn-cpu, ncnn-vulkan, onnx"),
    "wrong_backend": Case("convert -t onnx --backend onnx2tf -o out", 2, "is for TFLite targets only"),
    "missing_images": Case("convert ldn_fb -t onnx -o out --images gone", 2, "gone: there is no such folder"),
    "output_is_a_file": Case(
        "convert ldn_fb -t onnx -o file", 2, "choose another --output", lambda f: (f / "file").write_text("text")
    ),
    "foreign_output": Case(
        "convert ldn_fb -t onnx -o out", 2, "choose another --output, or add --force", _foreign_output
    ),
    "own_network_gone": Case(
        "convert gone.py:build -t onnx --size 64 -o out", 2, "network file gone.py does not exist"
    ),
    "own_network_without_size": Case(
        "convert mine.py:build -t onnx -o out", 2, "for example --size 256x256", _own_network("build = None")
    ),
    "own_network_breaks": Case(
        "convert mine.py:build -t onnx --size 64 -o out", 2, "failed: SyntaxError", _own_network("def build(:")
    ),
    "own_network_leaves": Case(
        "convert mine.py:build -t onnx --size 64 -o out", 2, "failed: SystemExit", _own_network("raise SystemExit(0)")
    ),
    "config_syntax": Case(
        "convert", 2, "mmexport.toml cannot be read: Expected '=' after a key", _config("target onnx")
    ),
    "config_unknown_key": Case(
        "convert -t onnx",
        2,
        "mmexport.toml: unknown key tarqet; known keys: allow_fallback, backend, ",
        _config('tarqet = "onnx"'),
    ),
    "config_unknown_network_key": Case(
        "convert -t onnx", 2, "mmexport.toml: unknown key network.std; known", _config("[network]\nstd = 1")
    ),
    "config_unknown_target": Case("convert", 2, "did you mean ncnn-cpu?", _config('target = "ncnn_cpu"')),
    "verify_nothing": Case("verify gone", 2, "artifact gone does not exist"),
    "verify_no_manifest": Case("verify .", 2, "has no manifest.json"),
    "verify_broken_manifest": Case("verify .", 2, "manifest.json cannot be read", _manifest("{")),
    "matte_no_manifest": Case("matte . a.jpg -o out", 2, "has no manifest.json"),
    "matte_foreign_manifest": Case("matte . a.jpg -o out", 2, "is no mmexport.manifest/1 file", _manifest("{}")),
}

# what click refuses: usage, then "Error: ..."
MISSPELT = {
    "bad_size": Case("convert -t onnx --size 12y -o out", 2, "write height x width, for example 256x192"),
    "size_of_nothing": Case("convert -t onnx --size 0x16 -o out", 2, "sides of 1 to 8192 pixels"),
    "bad_mean": Case("convert -t onnx --mean a,b,c -o out", 2, "write 127.5 or 104,112,121 or 1/255"),
    "two_means": Case("convert -t onnx --mean 1,2 -o out", 2, "give one, or one per channel"),
    "scale_by_zero": Case("convert -t onnx --scale 1/0 -o out", 2, "is not a number or three"),
    "bad_color": Case("convert -t onnx --color CMYK -o out", 2, "'CMYK' is not one of 'rgb', 'bgr'"),
    "bad_limit": Case("convert -t onnx --max-error -1 -o out", 2, "--max-error"),
    "unknown_flag": Case("convert -t onnx --tarqet onnx -o out", 2, "--target"),
    "unknown_command": Case("exprt", 2, "No such command 'exprt'"),
    "two_networks": Case("convert mmnet modnet -t onnx -o out", 2, "unexpected extra argument (modnet)"),
    "no_artifact": Case("verify", 2, "Missing argument 'ARTIFACT'"),
    "no_picture": Case("matte .", 2, "Missing argument 'IMAGES...'"),
    "config_bad_size": Case("convert -t onnx", 2, "write height x width", _config('size = "big"')),
}
CASES = REFUSED | MISSPELT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no MMEXPORT_ variables of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("MMEXPORT_")]:
        monkeypatch.delenv(variable)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below ``folder`` with its bytes, caches of imported Python files left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_explained_and_nothing_is_written(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    case.prepare(folder)
    before = contents(folder)
    assert run(case.command.split()) == case.code
    out, err = capsys.readouterr()
    assert out == ""
    assert case.words in err
    assert "Traceback" not in err and "defect" not in err
    assert contents(folder) == before


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_line_on_stderr(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    case = REFUSED[name]
    case.prepare(folder)
    run([*case.command.split(), "-q"])
    err = capsys.readouterr().err
    assert err.startswith("mmexport: ") and err.count("\n") == 1 and err.endswith("\n"), err


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_command_is_answered_with_its_usage(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = MISSPELT[name]
    case.prepare(folder)
    run(case.command.split())
    err = capsys.readouterr().err
    assert err.startswith("Usage: mmexport") and err.count("Error: ") == 1, err


@pytest.mark.parametrize("name", CASES)
def test_with_json_a_failure_is_one_object_on_stdout(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    case.prepare(folder)
    assert run([*case.command.split(), "--json"]) == case.code
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"error", "exit_code"}
    assert report["exit_code"] == case.code and case.words in report["error"]


def test_verbose_shows_the_traceback_before_the_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "-t", "onnx", "-c", "gone.pt", "-v"]) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1] == "mmexport: checkpoint gone.pt does not exist"


def test_force_does_not_overcome_a_refused_checkpoint(folder: Path) -> None:
    _foreign_output(folder)
    _pickled_module(folder)
    before = contents(folder)
    assert run(["convert", "ldn_fb", "-t", "onnx", "-o", "out", "--force", "-c", "net.pt"]) == 3
    assert contents(folder) == before


def test_a_defect_says_how_to_report_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("mobile_matting_export.network.load_network", broken)
    assert run(["convert", "-t", "onnx", "-q", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["exit_code"] == 1
    assert "unexpected ZeroDivisionError: by zero. This is a defect of mmexport: please report it" in err
    assert "Traceback" not in err
    assert run(["convert", "-t", "onnx", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_control_c_ends_without_a_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mobile_matting_export.network.load_network", interrupted)
    assert run(["convert", "-t", "onnx"]) == 130
    err = capsys.readouterr().err
    assert "stopped" in err and "Traceback" not in err


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_verify_of_another_matte_exits_with_4_and_one_result(
    folder: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.onnx").write_bytes(b"model")
    manifest = {"schema": SCHEMA, "network": {"name": "mmnet"}, "target": "onnx", "precision": "fp32"}
    write_json(folder / MANIFEST, manifest | {"files": describe_files(folder, (folder / "net.onnx",))})
    result = {
        "images": 2,
        "max_abs": 0.5,
        "mad": 0.1,
        "psnr_db": 20.0,
        "worst": "b.jpg",
        "device": "cpu",
        "limits": {"max_abs": 1e-3, "mad": 1e-4},
        "passed": False,
    }
    monkeypatch.setattr("mobile_matting_export.verify.verify_artifact", lambda *arguments: result)
    assert run(["verify", ".", *flags]) == 4
    out, err = capsys.readouterr()
    if flags:
        assert json.loads(out) == result
    assert "mmnet onnx-fp32 is not the network's matte: worst on b.jpg, max error 0.5 (limit 0.001)" in err


@pytest.mark.parametrize(("name", "code"), [("unknown_target", 2), ("pickled_module", 3)])
def test_a_real_process_exits_with_the_same_code(folder: Path, name: str, code: int) -> None:
    case = CASES[name]
    case.prepare(folder)
    root = Path(mobile_matting_export.__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mobile_matting_export.cli.main", *case.command.split(), "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert done.returncode == case.code == code
    assert json.loads(done.stdout)["exit_code"] == code
    assert case.words in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "out").exists()
