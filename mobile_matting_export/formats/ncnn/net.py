"""The one place that talks to the ncnn runtime: it returns codes and borrows memory, we raise and copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.ncnn.param import ParamFile, ParamSyntaxError, read


def strict_fp32(options: Any) -> None:
    """Set an ``ncnn.Option`` to float32 on one CPU thread, whatever the weights are stored as."""
    _one_cpu_thread(options)
    _set_arithmetic(options, "fp32")


def strict_fp32_keeping_blobs(options: Any) -> None:
    """Set an ``ncnn.Option`` as ``strict_fp32`` does, with every blob kept in memory until the frame is done."""
    strict_fp32(options)
    options.lightmode = False


def fp16_on_cpu(options: Any) -> None:
    """Set an ``ncnn.Option`` to one CPU thread and fp16 wherever the CPU has it."""
    _one_cpu_thread(options)
    _set_arithmetic(options, "fp16")


def fp16_on_vulkan(options: Any) -> None:
    """Set an ``ncnn.Option`` to the Vulkan device with fp16 storage and arithmetic, as phones run it."""
    options.num_threads = 1
    options.use_vulkan_compute = True
    _set_arithmetic(options, "fp16")


def fp32_on_vulkan(options: Any) -> None:
    """Set an ``ncnn.Option`` to the Vulkan device in float32, for networks that halves are too coarse for."""
    options.num_threads = 1
    options.use_vulkan_compute = True
    _set_arithmetic(options, "fp32")


def split_files(files: Sequence[Path]) -> tuple[Path, Path]:
    """Return the ``.param`` and the ``.bin`` among an artifact's files.

    Raises:
        UsageError: one is missing, from the list or from the disk.
    """
    found = []
    for suffix in (".param", ".bin"):
        path = next((path for path in files if path.suffix == suffix), None)
        if path is None:
            raise UsageError(f"an ncnn artifact needs a {suffix} file; got {[path.name for path in files]}")
        if not path.is_file():
            raise UsageError(f"{path} is missing; convert again")
        found.append(path)
    return found[0], found[1]


def read_network(param: Path) -> ParamFile:
    """Return the network that the ``.param`` describes.

    Raises:
        UsageError: the file is missing, or no ncnn network.
    """
    try:
        return read(param)
    except OSError as error:
        raise UsageError(f"cannot read ncnn file {param}: {error.strerror or error}; check the path") from error
    except ParamSyntaxError as error:
        raise UsageError(f"{param} is no ncnn network: {error}; convert again") from error


def load_net(param: Path, weights: Path, configure: Callable[[Any], None]) -> tuple[Any, Any]:
    """The module ``ncnn``, and a ``Net`` with both files loaded after ``configure`` has set its options.

    Raises:
        UsageError: a file is missing or damaged; names it.
        ConversionError: the ncnn runtime is not installed.
    """
    try:
        import ncnn
    except ImportError as error:
        raise ConversionError("the ncnn runtime is not installed; run: pip install ncnn") from error
    net = ncnn.Net()
    configure(net.opt)
    for path, code in ((param, net.load_param(str(param))), (weights, net.load_model(str(weights)))):
        if code != 0:
            raise UsageError(f"ncnn cannot load {path} (code {code}): it is damaged or incomplete; convert again")
    return ncnn, net


class LoadedNet:
    """A network in ncnn's memory, with every return code checked and every tensor copied."""

    def __init__(self, files: Sequence[Path], configure: Callable[[Any], None]) -> None:
        """Load ``files`` after ``configure`` has set the ``ncnn.Option`` (later changes would be ignored).

        Raises:
            UsageError: a file is missing or damaged; names it.
            ConversionError: the ncnn runtime is not installed.
        """
        param, weights = split_files(files)
        network = read_network(param)
        self._path = param
        # (channels, height, width): keys 2, 1, 0 of the Input layers
        self._inputs = {layer.outputs[0]: tuple(layer.setting(key) for key in (2, 1, 0)) for layer in network.inputs}
        if any(0 in shape for shape in self._inputs.values()):
            raise UsageError(f"{param} does not state the size of its inputs, so it is not of this tool; convert again")
        self._outputs = network.outputs
        self._ncnn, self._net = load_net(param, weights, configure)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one frame: name -> float32 1xCxHxW, returns name -> float32 1xCxHxW.

        Raises:
            UsageError: an input is missing, unknown, or of another shape than the network was made for.
            ConversionError: ncnn failed inside the network; names the blob.
        """
        results = {}
        for name, result in self.read_blobs(inputs, self._outputs):
            if result.ndim != 3:
                raise ConversionError(f"output {name!r} of {self._path} has shape {result.shape}, not channels x H x W")
            results[name] = result[np.newaxis]
        return results

    def read_blobs(self, inputs: Mapping[str, np.ndarray], blobs: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Run one frame as ``run`` does and yield ``blobs`` of it: name and a float32 copy, C x H x W or fewer axes.

        Blobs that the network itself reads are there only where the options keep them.
        """
        arrays = self._checked(inputs)
        with self._net.create_extractor() as extractor:
            for name, array in arrays.items():
                # Mat borrows the array's memory without keeping it alive: `array` stays bound over the clone
                self._check(extractor.input(name, self._ncnn.Mat(array).clone()), "take input", name)
            for name in blobs:
                code, mat = extractor.extract(name)
                self._check(code, "compute output" if name in self._outputs else "compute blob", name)
                yield name, np.array(mat, dtype=np.float32)

    def ramp(self) -> dict[str, np.ndarray]:
        """A frame that fits the network: name -> float32 1xCxHxW that rises from -1 to 1."""
        return {
            name: np.linspace(-1, 1, math.prod(shape), dtype=np.float32).reshape(1, *shape)
            for name, shape in self._inputs.items()
        }

    def close(self) -> None:
        """Release the network's memory."""
        self._net.clear()

    def _checked(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if set(inputs) != set(self._inputs):
            raise UsageError(f"{self._path} takes the inputs {sorted(self._inputs)}, got {sorted(inputs)}")
        for name, shape in self._inputs.items():
            if inputs[name].shape != (1, *shape):
                raise UsageError(
                    f"input {name!r} of {self._path} must be {(1, *shape)}, got {inputs[name].shape}: "
                    "the size is fixed at conversion; resize the picture, or convert with another --size"
                )
        return {name: np.ascontiguousarray(inputs[name][0], dtype=np.float32) for name in self._inputs}

    def _check(self, code: int, action: str, blob: str) -> None:
        if code != 0:
            raise ConversionError(f"ncnn could not {action} {blob!r} of {self._path} (code {code})")


def _one_cpu_thread(options: Any) -> None:
    options.num_threads = 1
    options.use_vulkan_compute = False


def _set_arithmetic(options: Any, arithmetic: Literal["fp16", "fp32"]) -> None:
    on = arithmetic == "fp16"
    options.use_fp16_packed = on
    options.use_fp16_storage = on
    options.use_fp16_arithmetic = on
    # bfloat16 is coarser than either precision that we offer
    options.use_bf16_packed = False
    options.use_bf16_storage = False
