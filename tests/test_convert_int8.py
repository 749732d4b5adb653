"""int8 from the command line to the file: budget, recipe and its replay, refusals; on the smallest bundled network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from run_quietly import Done, run_quietly

from mobile_matting_export.artifact import file_sha256
from mobile_matting_export.formats.tflite.read_file import read_file
from mobile_matting_export.procedural_portraits import make_portrait

pytestmark = pytest.mark.toolchain


def _convert(*flags: object, target: str = "tflite-cpu", precision: str = "int8") -> Done:
    return run_quietly("convert", "ldn_fb", "--target", target, "--precision", precision, "--json", *flags)


@pytest.fixture(scope="module")
def made(nine_portraits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact whose budget no network holds with all layers in int8, so that a search was needed."""
    output = tmp_path_factory.mktemp("made")
    done = _convert(
        "--calibration", nine_portraits, "--ranges", "minmax", "--quality-budget", "mad=0.002", "-o", output
    )
    assert done.exit_code == 0, done.output
    return output / "ldn_fb" / "tflite-cpu-int8"


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def test_the_search_keeps_layers_in_float_until_the_budget_holds(made: Path) -> None:
    said = _manifest(made)["quantization"]

    assert said["budget"] == {"mad": 0.002}
    assert said["held_out"]["mad"] <= 0.9 * 0.002 < said["all_int8"]["mad"]
    assert said["layers_float"]
    assert 0.25 <= said["macs_int8"] < 1
    # convolutions are nearly all of this network: in int8 alone they are nearer to it than int8 throughout
    assert said["arithmetic"] == "dynamic"
    assert {one["kind"] for one in said["layers"]} == {"CONV_2D"}
    assert (said["calibration"]["frames"], said["calibration"]["held_out"]) == (5, 4)


def test_the_file_is_what_the_manifest_says(made: Path) -> None:
    said = _manifest(made)["quantization"]
    graph = read_file(next(made.glob("*.tflite"))).main
    weights = [graph.tensors[op.inputs[1]].dtype for op in graph.operators if op.kind == "CONV_2D"]

    assert weights.count("INT8") == said["layers_int8"]
    assert {graph.tensors[op.outputs[0]].dtype for op in graph.operators} == {"FLOAT32"}
    assert said["fp32_bytes"] > next(made.glob("*.tflite")).stat().st_size


def test_a_recipe_replayed_in_another_process_gives_the_same_bytes(
    made: Path, nine_portraits: Path, tmp_path: Path
) -> None:
    words = ["convert", "ldn_fb", "-t", "tflite-cpu", "-p", "int8", "--calibration", nine_portraits, "-o", tmp_path]
    words += ["--recipe", made / "recipe.toml", "--cache", "off"]
    done = subprocess.run(
        [sys.executable, "-m", "mobile_matting_export.cli.main", *map(str, words)], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    (first,), (again,) = made.glob("*.tflite"), (tmp_path / "ldn_fb" / "tflite-cpu-int8").glob("*.tflite")
    assert file_sha256(first) == file_sha256(again)
    assert (made / "recipe.toml").read_bytes() == (again.parent / "recipe.toml").read_bytes()


def test_tuning_is_replayed_by_the_steps_in_the_recipe(made: Path, nine_portraits: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text((made / "recipe.toml").read_text().replace("tune_steps = 0", "tune_steps = 40"))
    files = []
    for place in ("first", "again"):
        done = _convert("--calibration", nine_portraits, "--recipe", recipe, "--cache", "off", "-o", tmp_path / place)
        assert done.exit_code == 0, done.output
        files += (tmp_path / place / "ldn_fb" / "tflite-cpu-int8").glob("*.tflite")

    assert file_sha256(files[0]) == file_sha256(files[1]) != file_sha256(next(made.glob("*.tflite")))
    assert (files[0].parent / "recipe.toml").read_bytes() == recipe.read_bytes()
    said = _manifest(files[0].parent)
    assert said["quantization"]["tuned"]["steps"] == 40
    assert [step["exact"] for step in said["rewrites"] if step["name"] == "tune_weights"] == [False]


def test_rounding_by_error_feedback_is_replayed_to_the_byte_in_another_process(
    made: Path, nine_portraits: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    said = (made / "recipe.toml").read_text().partition("\n[[keep_float]]")[0]
    said = said.replace("tflite-cpu", "ncnn-cpu").replace('"dynamic"', '"static"').replace("mad=0.002", "mad=0.02")
    files = {}
    for rounding in ("nearest", "error_feedback", "error_feedback"):
        recipe.write_text(said.replace('rounding = "nearest"', f'rounding = "{rounding}"'))
        output = tmp_path / f"{rounding}{len(files)}"
        words = ["convert", "ldn_fb", "-t", "ncnn-cpu", "-p", "int8", "--calibration", nine_portraits, "-o", output]
        words += ["--recipe", recipe, "--cache", "off", "--quality-budget", "mad=0.02"]
        done = subprocess.run(
            [sys.executable, "-m", "mobile_matting_export.cli.main", *map(str, words)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        files[output.name] = output / "ldn_fb" / "ncnn-cpu-int8"

    nearest, first, again = (file_sha256(next(folder.glob("*.bin"))) for folder in files.values())
    assert first == again != nearest
    assert 'rounding = "error_feedback"' in (files["error_feedback1"] / "recipe.toml").read_text()
    manifest = _manifest(files["error_feedback1"])
    assert manifest["quantization"]["rounding"] == "error_feedback"
    assert [step["exact"] for step in manifest["rewrites"] if step["name"] == "round_by_error_feedback"] == [False]


def test_weights_are_tuned_for_so_many_minutes_and_kept_where_that_helps(nine_portraits: Path, tmp_path: Path) -> None:
    words = ("--calibration", nine_portraits, "--ranges", "minmax", "--quality-budget", "mad=0.02", "--tune", 0.05)
    done = _convert(*words, "-o", tmp_path)

    assert done.exit_code == 0, done.output
    folder = tmp_path / "ldn_fb" / "tflite-cpu-int8"
    tuned, steps = _manifest(folder)["quantization"]["tuned"], "tune_steps = 0"
    if tuned is not None:
        assert tuned["after"] < tuned["before"]
        steps = f"tune_steps = {tuned['steps']}"
    assert steps in (folder / "recipe.toml").read_text()


def test_a_recipe_that_names_absent_layers_or_another_network_is_refused(
    made: Path, nine_portraits: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    text = (made / "recipe.toml").read_text()
    recipe.write_text(text.replace('layer = "net', 'layer = "nut', 1))
    done = _convert("--calibration", nine_portraits, "--recipe", recipe, "-o", tmp_path)
    assert (done.exit_code, "no layer or module of this file" in done.output) == (2, True)

    recipe.write_text(text.replace('"ldn_fb"', '"mmnet"'))
    done = _convert("--calibration", nine_portraits, "--recipe", recipe, "-o", tmp_path)
    assert (done.exit_code, "the recipe is for network mmnet, this is ldn_fb" in done.output) == (2, True)
    assert not (tmp_path / "ldn_fb").exists()


def test_a_recipe_is_held_to_a_budget_and_says_what_is_not_as_it_was(
    made: Path, nine_portraits: Path, tmp_path: Path
) -> None:
    replay = ["--calibration", nine_portraits, "--recipe", made / "recipe.toml", "-o", tmp_path]
    done = _convert(*replay, "--quality-budget", "mad=1e-6")
    assert (done.exit_code, "the recipe's file misses the quality budget mad=1e-06" in done.output) == (4, True)
    assert not (tmp_path / "ldn_fb").exists()

    others = tmp_path / "others"
    others.mkdir()
    for seed in range(8):
        cv2.imwrite(str(others / f"{seed}.png"), make_portrait(20 + seed, 160)[0])
    done = _convert("--calibration", others, *replay[2:], "--quality-budget", "mad=0.1")
    assert done.exit_code == 0, done.output
    assert "these are not the calibration pictures of the recipe" in done.output
    assert "the float file is not that of the recipe" not in done.output


def test_a_recipe_of_one_target_is_refused_for_several_before_anything_is_made(
    made: Path, nine_portraits: Path, tmp_path: Path
) -> None:
    recipe = made / "recipe.toml"
    done = _convert("--target", "ncnn-cpu", "--calibration", nine_portraits, "--recipe", recipe, "-o", tmp_path)

    assert (done.exit_code, "the recipe is for target tflite-cpu, this is ncnn-cpu" in done.output) == (2, True)
    assert not (tmp_path / "ldn_fb").exists()


def test_a_budget_that_cannot_be_held_leaves_nothing_and_says_what_it_would_cost(
    nine_portraits: Path, tmp_path: Path
) -> None:
    done = _convert(
        "--calibration", nine_portraits, "--ranges", "minmax", "--quality-budget", "mad=1e-6", "-o", tmp_path
    )

    assert done.exit_code == 4
    assert (
        "the quality budget mad=1e-06 cannot be held in int8: with all layers in int8 (static) the error" in done.output
    )
    assert "would have to stay float" in done.output
    assert not (tmp_path / "ldn_fb").exists()


@pytest.mark.parametrize("target", ["tflite-gpu", "ncnn-vulkan", "onnx"])
@pytest.mark.parametrize("precision", ["int8", "w8"])
def test_where_8_bits_are_no_gain_they_are_refused_with_the_reason(target: str, precision: str, tmp_path: Path) -> None:
    done = _convert("-o", tmp_path, target=target, precision=precision)

    assert done.exit_code == 2
    assert f"target {target} does not take --precision {precision}: " in done.output


@pytest.mark.parametrize("target", ["tflite-cpu", "ncnn-cpu"])
def test_w8_is_smaller_and_nearly_the_same_matte(target: str, tmp_path: Path) -> None:
    assert _convert("-o", tmp_path, target=target, precision="w8").exit_code == 0
    assert _convert("-o", tmp_path, target=target, precision="fp32").exit_code == 0

    eight, full = (_manifest(tmp_path / "ldn_fb" / f"{target}-{precision}") for precision in ("w8", "fp32"))

    def size(manifest: dict[str, Any]) -> int:
        return sum(file["bytes"] for file in manifest["files"] if not file["path"].endswith(".param"))

    assert size(eight) < 0.4 * size(full)
    assert full["parity"]["mad"] < eight["parity"]["mad"] < 5e-3


def test_ncnn_makes_int8_of_the_same_pictures(nine_portraits: Path, tmp_path: Path) -> None:
    done = _convert("--calibration", nine_portraits, "--quality-budget", "mad=0.006", "-o", tmp_path, target="ncnn-cpu")

    assert done.exit_code == 0, done.output
    said = _manifest(tmp_path / "ldn_fb" / "ncnn-cpu-int8")["quantization"]
    assert said["held_out"]["mad"] <= 0.9 * 0.006
    assert said["layers_int8"] >= 5
    assert {layer["module"] for layer in said["layers"]} <= {
        f"net.{name}" for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "newconvF1", "newconvF2")
    }


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((64, 64, 3), np.uint8))

    done = _convert("--calibration", tmp_path, "-o", tmp_path / "out")

    assert done.exit_code == 2
    assert "3 pictures" in done.output
