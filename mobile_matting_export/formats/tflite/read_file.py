"""Reads a TFLite flatbuffer without running it: operators, tensors, types, signatures."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mobile_matting_export.errors import UsageError

IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of every TFLite file (the flatbuffer's file identifier)."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph. ``dtype`` is the schema's name, as ``FLOAT32``.

    ``constant`` says that the file stores its values (a weight, a shape, a padding).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool


@dataclass(frozen=True)
class Operator:
    """One operator: builtin name (custom ones by their own name), version, tensor indices, options.

    An absent optional input has the index -1. ``options`` are the schema's attributes, such as
    ``alignCorners`` or ``fusedActivationFunction``, as numbers; empty for operators without any.
    """

    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Subgraph:
    """One executable graph: operators in order of execution; inputs and outputs index ``tensors``."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """A named entry point: argument name -> tensor index in subgraph number ``subgraph``."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class TfliteFile:
    """What a TFLite file contains. The main graph is the first subgraph."""

    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]

    @property
    def main(self) -> Subgraph:
        """The graph that an interpreter runs by default."""
        return self.subgraphs[0]


def read_file(path: Path) -> TfliteFile:
    """Return the operators, tensors and signatures of ``path``.

    Raises:
        UsageError: the file is missing, no TFLite file, or damaged.
    """
    model = parse(path)
    try:
        subgraphs = tuple(_subgraph(model, graph) for graph in model.subgraphs)
        signatures = tuple(_signature(entry) for entry in model.signatureDefs or ())
    except (AttributeError, IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    return TfliteFile(subgraphs, signatures)


def count_ops(files: tuple[Path, ...]) -> dict[str, int]:
    """Map each operator type to its number in all subgraphs, most frequent first, then by name."""
    kinds = Counter(operator.kind for path in files for operator in _operators(read_file(path)))
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def check_identifier(path: Path) -> bytes:
    """Return the bytes of ``path`` after checking that they begin as a TFLite file does.

    Raises:
        UsageError: the file cannot be read, is empty, or does not carry the identifier ``TFL3``.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot read TFLite file {path}: {reason}; check the path") from error
    if content[4:8] != IDENTIFIER:
        raise UsageError(
            f"{path} is not a TFLite file ({len(content)} bytes, identifier TFL3 missing); "
            "give a .tflite file, or convert the network again"
        )
    return content


def parse(path: Path) -> Any:
    """Return the schema's own editable object (``ModelT``) of ``path``.

    Raises:
        UsageError: as ``check_identifier``, or the flatbuffer is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = check_identifier(path)
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
    except Exception as error:  # the generated reader fails in whatever way the bytes lead it to
        raise _damaged(path, error) from error
    if not model.subgraphs or model.operatorCodes is None or not model.buffers:
        raise UsageError(f"{path} holds no graph; convert the network again")
    return model


def _damaged(path: Path, error: Exception) -> UsageError:
    cause = "it ends before what it says it holds" if isinstance(error, struct.error) else type(error).__name__
    return UsageError(f"{path} is damaged or truncated ({cause}); copy it or convert the network again")


def _operators(file: TfliteFile) -> Iterator[Operator]:
    for subgraph in file.subgraphs:
        yield from subgraph.operators


def _subgraph(model: Any, graph: Any) -> Subgraph:
    dtypes = _names("TensorType")
    return Subgraph(
        tensors=tuple(
            Tensor(
                name=_text(tensor.name),
                shape=_numbers(tensor.shape),
                dtype=dtypes[tensor.type],
                constant=_has_data(model.buffers[tensor.buffer]),
            )
            for tensor in graph.tensors
        ),
        operators=tuple(_operator(model, operator) for operator in graph.operators or ()),
        inputs=_numbers(graph.inputs),
        outputs=_numbers(graph.outputs),
    )


def _operator(model: Any, operator: Any) -> Operator:
    code = model.operatorCodes[operator.opcodeIndex]
    # files from before 2020 carry the code in the deprecated byte, newer ones in both up to 127
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    kind = _text(code.customCode) if code.customCode else _names("BuiltinOperator")[builtin]
    options = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
    return Operator(
        kind=kind,
        version=code.version,
        inputs=_numbers(operator.inputs),
        outputs=_numbers(operator.outputs),
        options=dict(options),
    )


def _signature(entry: Any) -> Signature:
    return Signature(
        key=_text(entry.signatureKey),
        subgraph=int(entry.subgraphIndex),
        inputs={_text(item.name): int(item.tensorIndex) for item in entry.inputs or ()},
        outputs={_text(item.name): int(item.tensorIndex) for item in entry.outputs or ()},
    )


def _has_data(buffer: Any) -> bool:
    # a buffer behind the flatbuffer (files above 2 GB) has an offset instead of data
    return (buffer.data is not None and len(buffer.data) > 0) or buffer.offset > 1


def _numbers(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


@cache
def _names(enumeration: str) -> dict[int, str]:
    """Number -> name of one of the schema's enumerations."""
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enumeration)).items() if isinstance(value, int)}
