"""Turns a converter's exception into one sentence: what failed, in which layer, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import fx

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.graph.provenance import describe_place

REMEDIES: tuple[tuple[str, str], ...] = (
    (
        "broadcast-compatible shapes",
        "drop expand / expand_as in front of the multiplication (it broadcasts by itself), and write a "
        "Linear layer on a pooled map as a 1x1 convolution",
    ),
    (
        "same scale constraint",
        "convert the float network and quantize the file, not the graph (no PT2E observers)",
    ),
    (
        "mhlo.convolution",
        "a transposed convolution needs output_padding 0: use kernel 4, stride 2, padding 1, or crop the "
        "result of one without padding",
    ),
    (
        "must be concrete",
        "sizes and indices must not depend on pixel values: replace boolean indexing by a multiplication with a mask",
    ),
    (
        "Lowering not found",
        "TFLite has no form of this operator: express the layer by convolutions, pooling, resizing and "
        "pointwise operators",
    ),
)
"""A part of the converter's message -> what a person can do about it; the first match wins."""

UNKNOWN = (
    "express the layer by convolutions, pooling, resizing and pointwise operators, or try the second "
    "opinion: --backend onnx2tf"
)

# 'net.py:12:0: error: text' (MLIR) and '  File "net.py", line 12, in forward' (Python)
_PLACES = (re.compile(r"(\S+\.py):(\d+):\d+: error"), re.compile(r'File "([^"]+\.py)", line (\d+)'))
_OPERATOR = re.compile(r"aten\.\w+\.\w+")


def explain_failure(error: Exception, graph: fx.Graph) -> ConversionError:
    """Return the error to raise instead of ``error``: first useful line, module path, line of code, remedy.

    ``graph`` is the graph that was converted; its nodes tell which PyTorch module a source line or an
    operator belongs to, or the node where no module is known. Without a hit the sentence names no layer.
    """
    message = str(error)
    remedy = next((remedy for part, remedy in REMEDIES if part in message), UNKNOWN)
    where = describe_place(list(_guilty(message, graph)))
    return ConversionError(f"litert-torch cannot convert the network{where}: {_first_line(error)}; {remedy}")


def _first_line(error: Exception) -> str:
    """The first line that says something, without the converter's preamble and source position."""
    for line in str(error).splitlines():
        text = re.sub(r"^Failed to run converter passes:\s*", "", line.strip())
        text = re.sub(r"^\S+\.py:\d+:\d+:\s*(error:\s*)?", "", text)
        if text:
            return text if len(text) <= 200 else text[:200] + "..."
    return type(error).__name__


def _guilty(message: str, graph: fx.Graph) -> Iterator[fx.Node]:
    """Nodes that the message means, best evidence first: the innermost source line, then the operator's name."""
    for pattern in _PLACES:
        for name, line in reversed(pattern.findall(message)):
            marker = f'File "{name}", line {line},'
            hits = [node for node in graph.nodes if marker in (node.stack_trace or "")]
            if hits:
                yield from hits
                return
    named = _OPERATOR.search(message)
    for node in graph.nodes:
        if named and str(node.target) == named.group():
            yield node
