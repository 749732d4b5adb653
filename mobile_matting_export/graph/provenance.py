"""Where a node came from: the path of the PyTorch module and the line of the network's code."""

from __future__ import annotations

import traceback
from pathlib import Path

from torch import fx


def module_path(node: fx.Node) -> str:
    """Path of the innermost module that made ``node``, e.g. ``net.enc_block0.merge.conv``; else its name."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values() if entry[0]]
    return paths[-1] if paths else node.name


def describe(node: fx.Node) -> str:
    """A node for an error message: operator, module path, and the line of source where known."""
    operator_name = str(node.target).removeprefix("aten.").split(".")[0]
    return f"{operator_name} at {module_path(node)}"


def user_line(error: BaseException) -> str:
    """`` (file.py, line 12: `code`)`` of the last frame outside torch, or nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/torch/" not in f.filename and not f.filename.startswith("<")]
    foreign = [f for f in ours if "mobile_matting_export/graph" not in f.filename]
    if not foreign:
        return ""
    frame = foreign[-1]
    return f" ({Path(frame.filename).name}, line {frame.lineno}: `{(frame.line or '').strip()}`)"
