"""Run an ncnn artifact: strict float32 on the CPU, or on a Vulkan device in a child process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import mobile_matting_export
from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import Session
from mobile_matting_export.formats.ncnn import net, worker
from mobile_matting_export.formats.ncnn.param import ParamSyntaxError, read

WORKER_TIMEOUT_S = 600
"""A software device needs seconds for a frame; a driver that hangs needs forever."""


def open_session(files: tuple[Path, ...], accelerator: str) -> Session:
    """Load ``.ncnn.param`` and ``.ncnn.bin`` for ``accelerator`` ``cpu``, ``gpu`` or ``gpu-fp32``.

    ``cpu`` computes in float32 on one thread: what remains is the rounding of the file's own weights.
    ``gpu`` computes in fp16 on the Vulkan device; where there is none, on the CPU with fp16 switched on,
    which says little on x86, where it gave the same bits as ``cpu``. ``gpu-fp32`` is the same in float32.
    The session's ``device`` tells.

    Raises:
        UsageError: a file is missing or damaged, or the accelerator is unknown.
        ConversionError: the runtime is missing, or crashed; names the signal.
    """
    if accelerator == "cpu":
        return CpuSession(files)
    if accelerator in ("gpu", "gpu-fp32"):
        return WorkerSession(files, "fp32" if accelerator == "gpu-fp32" else "fp16")
    raise UsageError(f"ncnn runs on 'cpu', 'gpu' or 'gpu-fp32', not on {accelerator!r}")


def count_ops(files: tuple[Path, ...]) -> dict[str, int]:
    """Return layer type -> number of layers, sorted by type; ``Input`` is no operation.

    Raises:
        UsageError: the ``.param`` is missing or damaged.
    """
    param, _ = net.split_files(files)
    try:
        network = read(param)
    except ParamSyntaxError as error:
        raise UsageError(f"{param} is no ncnn network: {error}; convert again") from error
    return dict(sorted(Counter(layer.type for layer in network.layers if layer.type != "Input").items()))


class CpuSession:
    """An ncnn network on the CPU, strict float32, one thread."""

    device = "cpu"

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._net = net.LoadedNet(files, net.strict_fp32)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one frame: name -> float32 1xCxHxW, returns ``alpha`` and new states, 1xCxHxW float32."""
        return self._net.run(inputs)

    def close(self) -> None:
        """Release the network's memory."""
        self._net.close()


class WorkerSession:
    """An ncnn network on the Vulkan device, in a child process that may crash."""

    def __init__(self, files: tuple[Path, ...], arithmetic: str = "fp16", timeout_s: float = WORKER_TIMEOUT_S) -> None:
        self._param, weights = net.split_files(files)
        self._timeout_s = timeout_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        package_root = str(Path(mobile_matting_export.__file__).resolve().parent.parent)
        search_path = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                worker.__name__,
                arithmetic,
                str(self._param.resolve()),
                str(weights.resolve()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": search_path},
        )
        try:
            self.device = self._answer(worker.DEVICE).decode()
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one frame: name -> float32 1xCxHxW, returns ``alpha`` and new states, 1xCxHxW float32.

        Raises:
            UsageError: an input is missing, unknown or of the wrong shape.
            ConversionError: ncnn or the driver failed or crashed; names the signal.
        """
        assert self._process.stdin is not None
        try:
            worker.write_frame(self._process.stdin, worker.ARRAYS, worker.pack(inputs))
        except (BrokenPipeError, ValueError):
            # the child is gone, or the session was closed: say how it ended
            raise self._death() from None
        return worker.unpack(self._answer(worker.ARRAYS))

    def close(self) -> None:
        """End the child process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _answer(self, expected: bytes) -> bytes:
        assert self._process.stdout is not None
        watchdog = threading.Timer(self._timeout_s, self._process.kill)
        watchdog.start()
        try:
            frame = worker.read_frame(self._process.stdout)
        finally:
            watchdog.cancel()
        if frame is None:
            raise self._death()
        kind, payload = frame
        if kind == worker.USAGE_ERROR:
            raise UsageError(payload.decode())
        if kind != expected:
            raise ConversionError(payload.decode())
        return payload

    def _death(self) -> ConversionError:
        code = self._process.wait()
        ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        if -code == signal.SIGKILL:
            ended += f" (stopped after {self._timeout_s:g} s, or out of memory)"
        remedy = "update the GPU's driver, or check the artifact with the target ncnn-cpu"
        if self._log.closed:
            return ConversionError(f"the session of {self._param} is closed ({ended}); open it again")
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        last_words = " | ".join(lines[-2:]) or "nothing"
        return ConversionError(
            f"running {self._param} with ncnn ended the child process with {ended} (it printed: {last_words}); {remedy}"
        )
