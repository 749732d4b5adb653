"""The one place that runs the ``pnnx`` program: TorchScript in, ncnn text and weights out."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mobile_matting_export.errors import ConversionError

TIMEOUT_S = 1800
"""pnnx runs the network to learn its shapes: seconds for most, half a minute at 512x512 on one core."""

_PROBE = 65_536


class NotExpressible(ConversionError):
    """pnnx met something that ncnn cannot do; ``complaint`` is its own line, which begins with the operator."""

    def __init__(self, complaint: str, place: str = "") -> None:
        super().__init__(
            f"pnnx cannot express part of the network in ncnn{place}: {complaint!r}; "
            "write that operator differently, or choose a tflite target"
        )
        self.complaint = complaint


_DISAGREEMENT = re.compile(r"unsupported|not supported", re.IGNORECASE)


def executable() -> Path:
    """Return the ``pnnx`` program of the installed wheel.

    Raises:
        ConversionError: it is not installed.
    """
    try:
        import pnnx
    except ImportError as error:
        raise ConversionError("the converter pnnx is not installed; run: pip install pnnx") from error
    # the wheel's Python function is of no use: it drops the exit status and runs the code it generated
    return Path(pnnx.EXEC_PATH)


def convert(torchscript: Path, shapes: Sequence[Sequence[int]], timeout_s: float = TIMEOUT_S) -> tuple[Path, Path]:
    """Convert a traced network and return its ``.param`` and ``.bin``, beside ``torchscript``.

    Every weight is stored as float32.

    Args:
        torchscript: file of a traced network, alone in a scratch folder: pnnx writes five more files there.
        shapes: shape of each input, in order, batch axis included; every input is float32.
        timeout_s: seconds after which the converter is stopped.

    Raises:
        NotExpressible: it said that it met something unsupported (which does not stop it).
        ConversionError: the program failed, was stopped, or wrote nothing.
        OSError: the disk is full.
    """
    stem = torchscript.with_suffix("")
    param, weights = stem.with_suffix(".ncnn.param"), stem.with_suffix(".ncnn.bin")
    for leftover in (param, weights):
        leftover.unlink(missing_ok=True)
    inputs = ",".join("[" + ",".join(str(side) for side in shape) + "]f32" for shape in shapes)
    command = [
        str(executable()),
        str(torchscript.resolve()),
        f"inputshape={inputs}",
        "fp16=0",  # with 1 pnnx rounds every weight, also those that save nothing
        f"ncnnparam={param.resolve()}",
        f"ncnnbin={weights.resolve()}",
    ]
    # one thread: sums folded at conversion must not depend on the number of cores
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=torchscript.parent,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionError(
            f"pnnx was stopped after {timeout_s:g} s; convert at a smaller --size, or on a faster machine"
        ) from error
    except OSError as error:
        raise ConversionError(
            f"pnnx could not be started: {error}; reinstall it: pip install --force-reinstall pnnx"
        ) from error
    _require_space(torchscript.parent)
    log = done.stdout + done.stderr
    if done.returncode != 0:
        raise ConversionError(f"pnnx failed with exit status {done.returncode}: {_last_words(log)}")
    complaint = _disagreement(log)
    if complaint is not None:
        raise NotExpressible(complaint)
    if not (param.is_file() and weights.is_file()):
        raise ConversionError(f"pnnx ended without an error but wrote no model: {_last_words(log)}")
    return param, weights


def _require_space(folder: Path) -> None:
    """Fail as a write on a full disk fails: pnnx does not look whether its own succeeded."""
    probe = folder / "probe"
    probe.write_bytes(bytes(_PROBE))
    probe.unlink()


def _disagreement(log: str) -> str | None:
    """First line in which pnnx reports something that it drops, although it goes on."""
    return next((line.strip() for line in log.splitlines() if _DISAGREEMENT.search(line)), None)


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip(" #-")]
    return " | ".join(lines[-3:]) or "it printed nothing"
