"""Jobs, launches, and a machine with scripted answers, for everything that measures without a device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from android_bench.job import Job, Tensor
from android_bench.runners.runner import Launch


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    def make(**changed: Any) -> Job:
        nhwc = changed.get("runtime", "tflite") == "tflite"
        files = [tmp_path / name for name in (["m.tflite"] if nhwc else ["m.param", "m.bin"])]
        for file in files:
            file.write_text("Input image 0 1 image 0=48 1=64 2=3\n")
        layout = "NHWC" if nhwc else "NCHW"
        values: dict[str, Any] = {
            "title": "net tflite-cpu-fp32",
            "artifact": "build/net/tflite-cpu-fp32",
            "runtime": "tflite",
            "accelerator": "cpu",
            "precision": "fp32",
            "files": tuple(files),
            "sha256": "0" * 64,
            "inputs": (Tensor("image", (1, 64, 48, 3) if nhwc else (1, 3, 64, 48), layout),),
            "output": Tensor("alpha", (1, 64, 48, 1) if nhwc else (1, 1, 64, 48), layout),
        }
        return Job(**(values | changed))

    return make


@pytest.fixture
def make_launch() -> Callable[..., Launch]:
    def make(**changed: Any) -> Launch:
        values: dict[str, Any] = {"program": ("/d/bench",), "files": ("/d/m",), "scratch": "/d/0", "threads": 4}
        return Launch(**(values | changed))

    return make
