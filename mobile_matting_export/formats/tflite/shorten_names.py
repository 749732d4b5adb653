"""Gives every tensor of a TFLite file a short name that still tells its PyTorch module.

litert-torch names a tensor by the classes and packages of all modules around it, several times over for an
operation that absorbed others: 400 bytes and more, a fifth of a small network's file. A short name is

- ``net.enc_block0.conv@1`` for what an operation computes: the module path as ``find_module`` reads it from
  the long name, ``@``, and which result of that module it is, from 1 in the order of execution; ``@1`` alone
  where the long name tells no module. An operation is thereby known by the name of its (first) output;
- ``12`` for a constant: nothing reads those names, but ai-edge-quantizer wants every tensor's to be unique;
- as before for the graph's inputs and outputs (``matte_image``, ``matte_alpha_output``).

No short name contains ``;``, with which ai-edge-quantizer joins output names to the scope that its rules search,
nor ``/``, by which ``find_module`` knows a stranger's long name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mobile_matting_export.formats.tflite.find_module import find_module
from mobile_matting_export.formats.tflite.read_file import Subgraph, TfliteFile, parse, read_file
from mobile_matting_export.formats.tflite.write_file import write_file


def shorten_names(path: Path) -> None:
    """Rename the tensors of ``path`` in place; operators, constants, shapes, types and signatures stay.

    Done to its own result, it changes nothing. Same file, same bytes.

    Raises:
        UsageError: ``path`` is no TFLite file, or damaged.
    """
    names = short_names(read_file(path))
    model = parse(path)
    for graph, row in zip(model.subgraphs, names, strict=True):
        for tensor, name in zip(graph.tensors, row, strict=True):
            tensor.name = name.encode()
    write_file(model, path)


def short_names(file: TfliteFile) -> list[list[str]]:
    """The short name of each tensor, by subgraph and tensor number; all differ, in the whole file."""
    kept = {graph.tensors[index].name for graph in file.subgraphs for index in (*graph.inputs, *graph.outputs)}
    uses: Counter[str] = Counter()
    found = []
    for graph in file.subgraphs:
        names = {index: graph.tensors[index].name for index in (*graph.inputs, *graph.outputs)}
        for index in _in_order_of_execution(graph):
            if index in names:
                continue
            module = "" if graph.tensors[index].constant else find_module(graph.tensors[index].name) + "@"
            while index not in names or names[index] in kept:
                uses[module] += 1
                names[index] = f"{module}{uses[module]}"
        found.append([names[index] for index in range(len(graph.tensors))])
    return found


def _in_order_of_execution(graph: Subgraph) -> Iterator[int]:
    """Results of operators in their order, then all other tensors; some twice."""
    for operator in graph.operators:
        yield from operator.outputs
    yield from range(len(graph.tensors))
