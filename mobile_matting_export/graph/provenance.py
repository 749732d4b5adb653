"""Where a node came from: the path of the PyTorch module and the line of the network's code."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import torch
from torch import fx

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)
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
