"""8-bit images and alphas from the command line to the file, and by the printed lines to the same matte."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_quietly import Done, run_quietly

from mobile_matting_export.artifact import read_artifact
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.read_ends import read_ends
from mobile_matting_export.images import load_picture, sample_pictures
from mobile_matting_export.matte import make_inputs, open_session
from mobile_matting_export.quantization.io_kind import IO_KINDS
from mobile_matting_export.quantization.judge_plan import PlanJudge
from mobile_matting_export.report.run_snippet import run_snippet

pytestmark = pytest.mark.toolchain


def _run(*words: object) -> Done:
    return run_quietly(*words, "--json")


@pytest.fixture(scope="module")
def made(nine_portraits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with int8 ends."""
    output = tmp_path_factory.mktemp("made")
    words = ["--calibration", nine_portraits, "--ranges", "minmax", "--quality-budget", "mad=0.02", "--io", "int8"]
    done = _run("convert", "ldn_fb", "-t", "tflite-cpu", "-p", "int8", *words, "-o", output)
    assert done.exit_code == 0, done.output
    return output / "ldn_fb" / "tflite-cpu-int8"


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def test_the_manifest_says_of_both_ends_what_the_file_has(made: Path) -> None:
    manifest, ends = _manifest(made), read_ends((next(made.glob("*.tflite")),))

    for tensor in (manifest["inputs"][0], manifest["outputs"][0]):
        told = {"dtype": "int8", "quantization": tensor["quantization"]}
        assert ends[tensor["name"]] == told and tensor["dtype"] == "int8"
    assert manifest["outputs"][0]["quantization"] == {"scale": float(np.float32(1 / 255)), "zero_point": -128}
    assert manifest["quantization"]["arithmetic"] == "static"
    assert 'io = "int8"' in (made / "recipe.toml").read_text()


def test_plans_are_judged_on_files_with_these_ends(tmp_path: Path) -> None:
    ends: list[tuple[object, ...]] = []
    way = replace(
        TFLITE.int8()[0],
        quantize=lambda *_: (tmp_path / "plan.tflite",),
        quantize_ends=lambda *given: ends.append(given),
    )
    for kind in IO_KINDS:
        judge = PlanJudge(TFLITE, way, (), (), {}, {}, (), "state", io=kind)
        assert judge.write(frozenset(), tmp_path, "plan") == (tmp_path / "plan.tflite",)

    assert ends == [((tmp_path / "plan.tflite",), {}, kind) for kind in ("int8", "uint8")]


def test_other_commands_read_it(made: Path, nine_portraits: Path, tmp_path: Path) -> None:
    for words in (("verify", made), ("inspect", made), ("matte", made, nine_portraits / "0.png", "-o", tmp_path)):
        done = _run(*words)
        assert done.exit_code == 0, done.output


def test_the_printed_lines_make_the_same_alpha(made: Path, tmp_path: Path) -> None:
    artifact = read_artifact(made)
    height, width = artifact.manifest["inputs"][0]["shape"][1:3]
    Image.open(sample_pictures()[0]).resize((width, height)).save(tmp_path / "portrait.png")
    snippet = run_snippet(artifact.manifest).replace("portrait.jpg", "portrait.png")
    snippet = snippet.replace(f'"{artifact.manifest["files"][0]["path"]}"', f'"{artifact.files[0]}"')
    subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, check=True, timeout=120)

    session = open_session(artifact)
    alpha = session.run(make_inputs(artifact, load_picture(tmp_path / "portrait.png")))["alpha"][0, 0]
    session.close()
    written = np.asarray(Image.open(tmp_path / "alpha.png"), np.float32)
    assert alpha.max() - alpha.min() > 0.9
    # both store the same image and restore the same alpha
    assert np.abs(written - alpha * 255).max() < 0.01


def test_a_recipe_says_the_ends_and_dynamic_arithmetic_has_none(
    made: Path, nine_portraits: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    words = ["convert", "ldn_fb", "-t", "tflite-cpu", "-p", "int8", "--calibration", nine_portraits, "--recipe", recipe]
    text = (made / "recipe.toml").read_text()
    recipe.write_text(text)
    done = _run(*words, "--cache", "off", "-o", tmp_path / "again")
    assert done.exit_code == 0, done.output
    (first,), (again,) = made.glob("*.tflite"), (tmp_path / "again" / "ldn_fb" / "tflite-cpu-int8").glob("*.tflite")
    assert first.read_bytes() == again.read_bytes()

    recipe.write_text(text.replace('"static"', '"dynamic"'))
    done = _run(*words, "-o", tmp_path)
    assert done.exit_code == 2
    assert "the recipe says arithmetic 'dynamic'; target tflite-cpu with io 'int8' has static" in done.output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("-t", "ncnn-cpu", "-p", "int8", "--io", "int8"), "target ncnn-cpu does not take --io int8"),
        (("-t", "tflite-cpu", "--io", "uint8"), "--io is for --precision int8"),
        (("-t", "tflite-cpu", "-p", "int8", "--io", "int8", "--input", "uint8"), "contradict each other"),
    ],
)
def test_what_does_not_go_together_is_refused(words: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    done = _run("convert", "ldn_fb", *words, "-o", tmp_path)

    assert done.exit_code == 2
    assert reason in done.output
    assert not (tmp_path / "ldn_fb").exists()
