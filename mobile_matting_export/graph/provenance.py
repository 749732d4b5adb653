"""Where a node came from: the path of the PyTorch module and the line of the network's code."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import fx

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n([^\n]*)')
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")


def module_path(node: fx.Node) -> str:
    """Path of the innermost module that made ``node``, e.g. ``net.enc_block0.merge.conv``; else its name."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values() if entry[0]]
    return paths[-1] if paths else node.name


def describe(node: fx.Node) -> str:
    """A node for an error message: operator and module path."""
    operator_name = str(node.target).removeprefix("aten.").split(".")[0]
    return f"{operator_name} at {module_path(node)}"


def operator_name(node: fx.Node) -> str:
    """Name of an ATen operator alone: ``aten.avg_pool2d.default`` -> ``avg_pool2d``."""
    schema = getattr(node.target, "_schema", None)
    name = schema.name if schema is not None else getattr(node.target, "__name__", str(node.target))
    return str(name).rpartition("::")[2]


def nodes_of(graph: fx.Graph, name: str) -> list[fx.Node]:
    """The nodes of an operator as converters name it: ``aten::sort``, ``torch.var``, ``F.grid_sample``."""
    bare = name.replace("::", ".").rpartition(".")[2]
    return [node for node in graph.nodes if node.op == "call_function" and operator_name(node) == bare]


def describe_place(nodes: Sequence[fx.Node]) -> str:
    """`` at layer net.odd (and 2 layers more of the same code) (file.py, line 12: `code`)``; nothing of no nodes."""
    paths = list(dict.fromkeys(map(module_path, nodes)))
    if not paths:
        return ""
    others = len(paths) - 1
    more = f" (and {others} layer{'s' if others > 1 else ''} more of the same code)" if others else ""
    return f" at layer {paths[0]}{more}{code_line(nodes[0])}"


def code_line(node: fx.Node) -> str:
    """`` (file.py, line 12: `code`)`` of the network's code that made ``node``, or nothing."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    foreign = [
        frame for frame in frames if not frame[0].startswith((_TORCH, _OURS, "<")) and not _is_standard(frame[0])
    ]
    if not foreign:
        return ""
    file, line, code = foreign[-1]
    return f" ({Path(file).name}, line {line}: `{code.strip()}`)"


def user_line(error: BaseException) -> str:
    """`` (file.py, line 12: `code`)`` of the last frame outside torch and Python's library, or nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [f for f in frames if not f.filename.startswith((_TORCH, _OURS, "<")) and not _is_standard(f.filename)]
    if not foreign:
        return ""
    frame = foreign[-1]
    return f" ({Path(frame.filename).name}, line {frame.lineno}: `{(frame.line or '').strip()}`)"


def _is_standard(filename: str) -> bool:
    # outside a virtual environment, installed packages lie in a folder of the standard library
    return filename.startswith(_STANDARD_LIBRARY) and "site-packages" not in filename
