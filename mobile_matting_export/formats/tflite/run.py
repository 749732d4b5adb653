"""Runs a TFLite file in the LiteRT interpreter, one CPU thread; NCHW outside, NHWC inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.byte_image import to_bytes
from mobile_matting_export.formats.silence import held_output
from mobile_matting_export.formats.tflite.eight_bit import find_eight_bit
from mobile_matting_export.formats.tflite.read_file import parse

Arrays = dict[str, np.ndarray]

CPU = "cpu (XNNPACK)"
DEVICES = {"cpu": CPU, "gpu": f"{CPU}, no GPU delegate on this machine"}
"""Accelerator asked for -> what the interpreter really runs on here."""


class TfliteSession:
    """An opened TFLite file. ``device`` says what it runs on.

    Our own files are called through their signature. Files of others are called through their first
    signature, or by the order of their plain inputs; a tensor's layout is told by its shape. Inputs and outputs
    of 8 bits with a scale are real numbers outside.
    """

    def __init__(self, path: Path, device: str) -> None:
        self.device = device
        self._path = path
        self._interpreter: Any = _load(path)
        self._call: Callable[[Arrays], Arrays]
        self._shapes: dict[str, tuple[int, ...]]
        self._ours = False
        signatures = self._interpreter.get_signature_list()
        if signatures:
            self._ours = "matte" in signatures
            key = "matte" if self._ours else next(iter(signatures))
            runner = self._interpreter.get_signature_runner(key)
            details = runner.get_input_details()
            # the interpreter lists names alphabetically; the signature's own order counts here
            self._shapes = {name: tuple(details[name]["shape"]) for name in signatures[key]["inputs"]}
            self._call = lambda inputs: dict(runner(**inputs))
            results = runner.get_output_details()
        else:
            details = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
            self._shapes = {name: tuple(entry["shape"]) for name, entry in details.items()}
            self._call = self._call_plain
            results = {entry["name"]: entry for entry in self._interpreter.get_output_details()}
        self._stored = find_eight_bit(details)
        self._restored = find_eight_bit(results)
        self._bytes = self._find_byte_inputs(details)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run one frame: input name -> float32 1xCxHxW; returns ``{"alpha": 1x1xHxW float32}``.

        New values of states stand beside it, float32 1xCxHxW.
        Outputs of foreign files keep their own names and channels, unless there is only one.

        Raises:
            UsageError: number, names or shapes of the inputs do not fit the file, or an image taken as
                bytes holds other numbers than 0 to 255.
        """
        size = next(iter(inputs.values())).shape[2:] if inputs else ()
        outputs = self._call(self._arranged(inputs))
        outputs |= {name: code.restore(outputs[name]) for name, code in self._restored.items()}
        if len(outputs) == 1:
            outputs = {"alpha": next(iter(outputs.values()))}
        # in ours every map is NHWC, whatever its size
        sizes = {name: value.shape[1:3] if self._ours else size for name, value in outputs.items()}
        return {name: _channel_first(value, sizes[name]) for name, value in outputs.items()}

    def close(self) -> None:
        """Release the interpreter and its memory."""
        del self._call
        self._interpreter = None

    def _arranged(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Inputs under the file's names and in the file's layout."""
        if len(inputs) != len(self._shapes):
            raise UsageError(
                f"{self._path} takes {len(self._shapes)} inputs ({_listed(self._shapes)}), "
                f"{len(inputs)} were given ({_listed(inputs)})"
            )
        ordered = inputs if set(inputs) == set(self._shapes) else dict(zip(self._shapes, inputs.values(), strict=True))
        return {name: self._fitted(name, ordered[name]) for name in self._shapes}

    def _fitted(self, name: str, image: np.ndarray) -> np.ndarray:
        shape = self._shapes[name]
        if name in self._bytes:
            image = to_bytes(name, image)
        elif name in self._stored:
            image = self._stored[name].store(image)
        else:
            image = np.asarray(image, np.float32)
        if image.ndim == 4:
            channel_last = image.transpose(0, 2, 3, 1)
            if channel_last.shape == shape:
                return np.ascontiguousarray(channel_last)
        if image.shape == shape:
            return np.ascontiguousarray(image)
        raise UsageError(
            f"input {name} of {self._path} has shape {_size(shape)} (NHWC); an image of "
            f"{_size(image.shape)} (NCHW) does not fit it"
        )

    def _call_plain(self, inputs: Arrays) -> Arrays:
        for entry in self._interpreter.get_input_details():
            self._interpreter.set_tensor(entry["index"], inputs[entry["name"]])
        self._interpreter.invoke()
        return {
            entry["name"]: self._interpreter.get_tensor(entry["index"])
            for entry in self._interpreter.get_output_details()
        }

    def _find_byte_inputs(self, details: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Names of the inputs that are pixels as bytes."""
        found = set()
        for name, entry in details.items():
            if name in self._stored:
                continue
            if entry["dtype"] is np.uint8 and entry["quantization"] in ((0.0, 0), (1.0, 0)):
                found.add(name)
            elif entry["dtype"] is not np.float32:
                raise UsageError(
                    f"input {name} of {self._path} is {np.dtype(entry['dtype']).name}; "
                    "only files with float32 inputs, with pixels as uint8, or with 8 bits and a scale can be run"
                )
        return found


def open_session(files: tuple[Path, ...], accelerator: str) -> TfliteSession:
    """Load the one ``.tflite`` file of ``files``.

    ``accelerator`` is ``cpu`` or ``gpu``; a GPU delegate exists on phones only, so here both run on
    the CPU, and ``device`` of the session says so.

    Raises:
        UsageError: the file is missing, damaged or no TFLite file, or the interpreter refuses it.
    """
    if len(files) != 1:
        raise UsageError(f"a TFLite artifact is one file, {len(files)} were given")
    if accelerator not in DEVICES:
        raise UsageError(f"unknown accelerator {accelerator}; choose cpu or gpu")
    return TfliteSession(files[0], DEVICES[accelerator])


def _load(path: Path) -> Any:
    parse(path)  # the interpreter is C++: what it must not see is refused before
    with held_output():  # XNNPACK announces itself
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(f"the LiteRT runtime refuses {path}: {reason}; convert the network again") from error
    return interpreter


def _channel_first(output: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """An output map as 1xCxHxW, when its height and width are where NHWC has them."""
    if output.ndim == 3 and output.shape[1:] == size:
        return output[:, None]
    if output.ndim == 4 and output.shape[1:3] == size:
        return np.ascontiguousarray(output.transpose(0, 3, 1, 2))
    return output


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)
