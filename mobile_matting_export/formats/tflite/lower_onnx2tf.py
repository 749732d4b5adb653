"""Converts an ONNX file to TFLite with onnx2tf and TensorFlow: a second opinion on litert-torch."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.tflite.name_signature import name_signature

PACKAGES = ("onnx2tf", "tensorflow", "tf_keras", "onnx_graphsurgeon", "sng4onnx", "psutil", "h5py")
"""What the route imports; onnx2tf itself declares no dependency."""

WRITTEN = {"fp32": "float32", "fp16": "float16"}
"""Our precision -> the ending that onnx2tf gives its file."""

TIMEOUT = 900
"""Seconds after which the child is ended; MODNet takes 130 s of CPU, slow machines several times that."""

_SAMPLE_IMAGES = "calibration_image_sample_data_20x128x128x3_float32.npy"


def emit_from_onnx(
    onnx_path: Path, example_inputs: Mapping[str, torch.Tensor], precision: str, folder: Path, stem: str
) -> tuple[Path, ...]:
    """Write ``folder/stem.tflite`` from ``onnx_path``, with the signature that ``lower.py`` writes.

    ``example_inputs`` maps input names to float32 1xCxHxW examples; the file takes them as NHWC and
    returns ``alpha`` as NHWC. ``precision`` is ``fp32`` or ``fp16`` (half weights). TensorFlow runs in
    a child process, without network, in a folder of its own that is removed afterwards.

    Raises:
        UsageError: the extra ``[tensorflow]`` is not installed, or the ONNX file is missing.
        ConversionError: onnx2tf fails, takes longer than ``TIMEOUT``, or returns another layout.
    """
    require_packages()
    if not onnx_path.is_file():
        raise UsageError(f"cannot read ONNX file {onnx_path}: no such file; check the path")
    if precision not in WRITTEN:
        raise ConversionError(f"onnx2tf writes {' or '.join(WRITTEN)}, not {precision}")
    target = folder / f"{stem}.tflite"
    with tempfile.TemporaryDirectory(prefix=".onnx2tf-", dir=folder) as scratch:
        made = _run_onnx2tf(onnx_path.resolve(), Path(scratch), precision)
        name_signature(made, example_inputs)
        made.replace(target)
    return (target,)


def require_packages() -> None:
    """Refuse where a package of the extra ``[tensorflow]`` is missing.

    Raises:
        UsageError: with the way to install it.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the onnx2tf route needs {', '.join(missing)}; install the extra: "
            "`make tensorflow` in a checkout, else pip install 'mmexport[tensorflow]'"
        )


def _run_onnx2tf(onnx_path: Path, scratch: Path, precision: str) -> Path:
    # onnx2tf downloads this file wherever it does not lie in the working directory
    noise = np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32)
    np.save(scratch / _SAMPLE_IMAGES, noise)
    command = [sys.executable, "-m", "onnx2tf", "-i", str(onnx_path), "-o", "out", "-nuo", "-n"]
    with subprocess.Popen(
        command,
        cwd=scratch,
        env=_offline_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            output, _ = child.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(
                f"onnx2tf has not converted {onnx_path.name} within {TIMEOUT} s; use the default backend"
            ) from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
    written = sorted((scratch / "out").glob(f"*_{WRITTEN[precision]}.tflite"))
    if child.returncode != 0 or len(written) != 1:
        failure = ConversionError(
            f"onnx2tf cannot convert {onnx_path.name} (exit status {child.returncode}): {_last_error(output)}; "
            "use the default backend (litert-torch)"
        )
        failure.add_note(f"what onnx2tf printed:\n{output[-2000:]}")
        raise failure
    return written[0]


def _offline_environment() -> dict[str, str]:
    nowhere = "http://127.0.0.1:9"
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    proxies = {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "http_proxy": nowhere, "https_proxy": nowhere}
    return {**os.environ, **quiet, **proxies}


def _last_error(output: str) -> str:
    """The last line of the child's output that names an error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it printed nothing"])[-1][:200]
