"""The main job through the real command, with the real converters, as a user's script would call it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mobile_matting_export.images import sample_pictures

pytestmark = pytest.mark.toolchain

TARGETS = {"tflite-cpu": "fp32", "tflite-gpu": "fp16", "ncnn-cpu": "fp16", "ncnn-vulkan": "fp16", "onnx": "fp32"}


def mmexport(folder: Path, *arguments: str) -> Any:
    """Run the command, and parse the one JSON object that its stdout must be."""
    command = [sys.executable, "-m", "mobile_matting_export.cli.main", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_convert_verify_and_matte_as_a_script_would(tmp_path: Path) -> None:
    flags = [word for target in TARGETS for word in ("--target", target)]
    made = mmexport(tmp_path, "convert", "ldn_fb", *flags)["artifacts"]
    assert {artifact["target"]: artifact["precision"] for artifact in made} == TARGETS
    assert all(artifact["parity"]["passed"] for artifact in made)
    assert sorted(path.name for path in (tmp_path / "build" / "ldn_fb").iterdir()) == sorted(
        f"{target}-{precision}" for target, precision in TARGETS.items()
    )
    for artifact in made:
        again = mmexport(tmp_path, "verify", artifact["folder"])
        assert again["passed"]
        assert again["max_abs"] == pytest.approx(artifact["parity"]["max_abs"], abs=1e-6)

    (picture, *_) = sample_pictures()
    written = mmexport(tmp_path, "matte", made[0]["folder"], str(picture), "-o", "mattes")["pictures"]
    assert all((tmp_path / written[0][kind]).is_file() for kind in ("alpha", "cutout", "composite"))


def test_converting_mmnet_for_the_gpu_stays_below_its_memory_contract(tmp_path: Path) -> None:
    mmexport(tmp_path, "convert", "mmnet", "--target", "tflite-gpu")
    # the largest child so far; kilobytes on Linux
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1.2e6
