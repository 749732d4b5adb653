"""The expression fits the operators it is made of and none that only contains them."""

from __future__ import annotations

import re

from mobile_matting_export.formats.tflite.match_operators import match_operators
from mobile_matting_export.formats.tflite.read_file import Operator, Subgraph, Tensor

NAMES = ("net.conv@1", "net.conv@10", "netxconv@1", "net.split@1", "net.split@2")
GRAPH = Subgraph(
    tuple(Tensor(name, (1, 2, 2, 1), "FLOAT32", False) for name in NAMES),
    (*(Operator("CONV_2D", 1, (), (index,), {}) for index in range(3)), Operator("SPLIT", 1, (), (3, 4), {})),
    (),
    (),
)


def test_an_operator_is_its_outputs_names() -> None:
    first, longer, similar, split = GRAPH.operators
    pattern = match_operators([(GRAPH, first), (GRAPH, split)])
    assert pattern is not None
    scopes = ("net.conv@1;", "net.conv@10;", "netxconv@1;", "net.split@1;net.split@2;", "net.split@1;", "")
    assert [scope for scope in scopes if re.search(pattern, scope)] == ["net.conv@1;", "net.split@1;net.split@2;"]
    assert longer.outputs != similar.outputs


def test_no_operators_no_expression() -> None:
    assert match_operators([]) is None
