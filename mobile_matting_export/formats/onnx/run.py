"""Run an ONNX artifact in onnxruntime on one CPU thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.byte_image import to_bytes
from mobile_matting_export.formats.format import Session


def open_session(files: tuple[Path, ...], accelerator: str) -> Session:
    """Load a ``.onnx`` file; ``accelerator`` must be ``cpu``.

    Raises:
        UsageError: the file is missing or damaged, or the accelerator is another one.
        ConversionError: onnxruntime is not installed.
    """
    if accelerator != "cpu":
        raise UsageError(f"onnx artifacts run on 'cpu' here, not on {accelerator!r}")
    return CpuSession(_only_file(files))


def count_ops(files: tuple[Path, ...]) -> dict[str, int]:
    """Return operator type -> number of nodes, sorted by type; ``Constant`` is no operation.

    Raises:
        UsageError: the file is missing or damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = _only_file(files)
    try:
        model = onnx.load(path)
    except DecodeError as error:
        raise UsageError(f"{path} is no ONNX model: {error}; convert again") from error
    types = Counter(node.op_type for node in model.graph.node if node.op_type != "Constant")
    return dict(sorted(types.items()))


class CpuSession:
    """An ONNX model in onnxruntime, one thread."""

    device = "cpu"

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConversionError("onnxruntime is not installed; run: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._path = path
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class per status code, all direct children of Exception
            raise UsageError(f"onnxruntime cannot load {path}: {error}; convert again") from error
        self._bytes = {value.name for value in self._session.get_inputs() if value.type == "tensor(uint8)"}
        self._inputs = {value.name: tuple(value.shape) for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one frame: name -> float32 1xCxHxW, returns ``{"alpha": 1x1xHxW float32}``.

        New values of states stand beside it, float32 1xCxHxW.

        Raises:
            UsageError: an input is missing, unknown, or of another shape than the model was made for, or
                an image taken as bytes holds other numbers.
        """
        if set(inputs) != set(self._inputs):
            raise UsageError(f"{self._path} takes the inputs {sorted(self._inputs)}, got {sorted(inputs)}")
        for name, shape in self._inputs.items():
            if inputs[name].shape != shape:
                raise UsageError(
                    f"input {name!r} of {self._path} must be {shape}, got {inputs[name].shape}: "
                    "the size is fixed at conversion; resize the picture, or convert with another --size"
                )
        feed = {
            name: to_bytes(name, inputs[name])
            if name in self._bytes
            else np.ascontiguousarray(inputs[name], np.float32)
            for name in self._inputs
        }
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))

    def close(self) -> None:
        """Release the model's memory."""
        del self._session


def _only_file(files: tuple[Path, ...]) -> Path:
    models = [path for path in files if path.suffix == ".onnx"]
    if len(models) != 1:
        raise UsageError(f"an onnx artifact is one .onnx file; got {[path.name for path in files]}")
    if not models[0].is_file():
        raise UsageError(f"{models[0]} is missing; convert again")
    return models[0]
