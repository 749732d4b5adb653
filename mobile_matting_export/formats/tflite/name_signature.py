"""Gives a TFLite file of another converter the signature that our own files have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.tflite.read_file import Subgraph, parse, read_file


def name_signature(path: Path, example_inputs: Mapping[str, torch.Tensor]) -> None:
    """Rewrite ``path`` with signature ``matte``, the inputs' names, and output ``alpha``.

    ``example_inputs`` (1xCxHxW) tell which tensor is which, by its NHWC shape. Only names and the
    signature change; operators and weights stay as they are.

    Raises:
        ConversionError: the file's inputs or output do not have these shapes in NHWC.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    main = read_file(path).main
    inputs = _matched_inputs(path, main, example_inputs)
    output = _single_output(path, main, example_inputs)
    model = parse(path)
    tensors = model.subgraphs[0].tensors
    for name, index in inputs.items():
        tensors[index].name = f"matte_{name}".encode()
    tensors[output].name = b"matte_alpha_output"
    signature = schema.SignatureDefT()
    signature.signatureKey = b"matte"
    signature.subgraphIndex = 0
    signature.inputs = [_tensor_map(schema, name, index) for name, index in inputs.items()]
    signature.outputs = [_tensor_map(schema, "alpha", output)]
    model.signatureDefs = [signature]
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))


def _matched_inputs(path: Path, main: Subgraph, examples: Mapping[str, torch.Tensor]) -> dict[str, int]:
    shapes = {index: main.tensors[index].shape for index in main.inputs}
    matched: dict[str, int] = {}
    for name, example in examples.items():
        _, channels, height, width = example.shape
        fitting = [index for index, shape in shapes.items() if shape == (1, height, width, channels)]
        if len(fitting) > 1:  # two inputs of one shape: the converter keeps the ONNX name in its own
            fitting = [index for index in fitting if name in main.tensors[index].name]
        if len(fitting) != 1:
            found = ", ".join("x".join(map(str, shape)) for shape in shapes.values())
            raise ConversionError(
                f"{path.name} of onnx2tf has inputs {found}, none of them {name} as "
                f"1x{height}x{width}x{channels}; use the default backend (litert-torch)"
            )
        matched[name] = fitting[0]
    return matched


def _single_output(path: Path, main: Subgraph, examples: Mapping[str, torch.Tensor]) -> int:
    height, width = next(iter(examples.values())).shape[2:]
    shapes = [main.tensors[index].shape for index in main.outputs]
    if shapes != [(1, height, width, 1)]:
        found = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise ConversionError(
            f"{path.name} of onnx2tf returns {found} instead of 1x{height}x{width}x1; "
            "use the default backend (litert-torch)"
        )
    return main.outputs[0]


def _tensor_map(schema: Any, name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = name.encode()
    entry.tensorIndex = index
    return entry
