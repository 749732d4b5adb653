"""Runs a TFLite file once in float32 and keeps every tensor between its operators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.silence import held_output
from mobile_matting_export.formats.tflite.eight_bit import EightBit, find_eight_bit
from mobile_matting_export.formats.tflite.read_file import Tensor, read_file

Arrays = Mapping[str, np.ndarray]


def record_tensors(path: Path, feed: Arrays) -> dict[int, np.ndarray]:
    """Number of a tensor in the file's main graph -> its value, inputs and constants included.

    Args:
        path: ours or a stranger's.
        feed: input name -> float32 1xCxHxW (0..255 for an input of bytes); by the names of the file's signature,
            else in the order of the file's inputs.

    Raises:
        UsageError: the inputs do not fit the file, or the runtime refuses it.
    """
    file = read_file(path)
    graph = file.main
    named = next((s.inputs for s in file.signatures if s.subgraph == 0 and set(s.inputs) == set(feed)), None)
    order = [named[name] for name in feed] if named else graph.inputs
    if len(feed) != len(graph.inputs):
        raise UsageError(f"{path} takes {len(graph.inputs)} inputs, {len(feed)} were given ({', '.join(feed)})")
    with held_output():  # the runtime announces itself
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            interpreter = Interpreter(
                model_path=str(path),
                num_threads=1,
                # a delegate would hide what is between its operators
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=True,
            )
            interpreter.allocate_tensors()
            stored = find_eight_bit({entry["index"]: entry for entry in interpreter.get_input_details()})
            for index, (name, value) in zip(order, feed.items(), strict=True):
                interpreter.set_tensor(index, _fitted(path, name, value, graph.tensors[index], stored.get(index)))
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(f"the LiteRT runtime refuses {path}: {reason}") from error
    recorded = {}
    for index in range(len(graph.tensors)):
        try:
            recorded[index] = interpreter.get_tensor(index)
        except ValueError:  # never written: an optional input, or a branch not taken
            continue
    return recorded


def _fitted(path: Path, name: str, value: np.ndarray, tensor: Tensor, stored: EightBit | None) -> np.ndarray:
    """The value in the tensor's layout and type."""
    value = np.asarray(value, np.float32)
    for candidate in (value.transpose(0, 2, 3, 1) if value.ndim == 4 else value, value):
        if candidate.shape == tensor.shape and stored is not None:
            return stored.store(np.ascontiguousarray(candidate))
        if candidate.shape == tensor.shape:
            whole = np.rint(candidate).astype(np.uint8) if tensor.dtype == "UINT8" else candidate
            return np.ascontiguousarray(whole)
    raise UsageError(f"input {name} of {path} has shape {tensor.shape}; {value.shape} (NCHW) does not fit it")
