"""Says to ai-edge-quantizer which operators a rule is for: a regular expression over their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mobile_matting_export.formats.tflite.read_file import Operator, Subgraph


def match_operators(chosen: Iterable[tuple[Subgraph, Operator]]) -> str | None:
    """A regular expression that matches these operators and no other; None without any.

    The quantizer knows an operator by the names of all its outputs, each followed by ``;``.
    """
    names = ["".join(f"{graph.tensors[index].name};" for index in operator.outputs) for graph, operator in chosen]
    return f"^(?:{'|'.join(map(re.escape, names))})$" if names else None
