from __future__ import annotations

import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.provenance import (
    code_line,
    describe,
    describe_place,
    module_path,
    nodes_of,
    operator_name,
    user_line,
)


def test_module_path_is_that_of_the_innermost_module() -> None:
    network = nn.Sequential(nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1)})["conv"], nn.Sequential(nn.ReLU()))
    graph = capture(network, {"image": torch.rand(1, 3, 5, 7)}).graph

    calls = [node for node in graph.nodes if node.op == "call_function"]
    assert [module_path(node) for node in calls] == ["0", "1.0"]
    assert [describe(node) for node in calls] == ["conv2d at 0", "relu at 1.0"]


def test_module_path_of_a_node_without_one_is_its_name() -> None:
    graph = fx.Graph()
    node = graph.call_function(torch.ops.aten.relu.default, (graph.placeholder("image"),))

    assert module_path(node) == node.name
    assert describe(node) == f"relu at {node.name}"


def test_module_path_of_the_network_itself_is_the_name_of_the_node() -> None:
    class Doubling(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * 2

    graph = capture(Doubling(), {"image": torch.rand(1, 3, 5, 7)}).graph
    node = next(node for node in graph.nodes if node.op == "call_function")

    assert module_path(node) == node.name


def test_code_line_is_the_network_s_own() -> None:
    class Doubling(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.relu(image) * 2

    graph = capture(nn.Sequential(Doubling(), nn.Conv2d(3, 1, 1)), {"image": torch.rand(1, 3, 5, 7)}).graph
    relu, times, conv = (node for node in graph.nodes if node.op == "call_function")

    line = code_line(times)
    assert line.startswith(" (test_provenance.py, line ")
    assert line.endswith(": `return torch.nn.functional.relu(image) * 2`)")
    assert code_line(relu) == line
    assert code_line(conv) == "", "nn.Sequential calls it: no line of the network's own"


def test_user_line_is_the_last_one_outside_torch() -> None:
    try:
        torch.nn.functional.conv2d(torch.zeros(1, 3, 5, 5), torch.zeros(1, 4, 1, 1))
    except RuntimeError as error:
        line = user_line(error)

    assert line.startswith(" (test_provenance.py, line ")
    assert line.endswith(": `torch.nn.functional.conv2d(torch.zeros(1, 3, 5, 5), torch.zeros(1, 4, 1, 1))`)")


def test_user_line_in_a_folder_called_torch_is_found(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "torch" / "network.py"
    file.parent.mkdir()
    file.write_text("def forward():\n    raise ValueError('broken')\n")
    scope: dict[str, object] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)

    try:
        scope["forward"]()  # type: ignore[operator]
    except ValueError as error:
        line = user_line(error)

    assert line == " (network.py, line 2: `raise ValueError('broken')`)"


def test_user_line_of_an_error_without_frames_is_empty() -> None:
    assert user_line(ValueError("never raised")) == ""


class Rooted(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(torch.sqrt(image)) + 1


def test_an_operator_is_found_under_every_converters_name_for_it() -> None:
    graph = capture(Rooted(), {"image": torch.rand(1, 3, 4, 4)}).graph
    for name in ("aten::sqrt", "torch.sqrt", "sqrt"):
        assert [operator_name(node) for node in nodes_of(graph, name)] == ["sqrt", "sqrt"]
    assert nodes_of(graph, "torch.sqr") == []


def test_a_place_is_a_layer_and_a_line() -> None:
    graph = capture(nn.Sequential(Rooted(), Rooted()), {"image": torch.rand(1, 3, 4, 4)}).graph
    told = describe_place(nodes_of(graph, "sqrt"))
    assert told.startswith(" at layer 0 (and 1 layer more of the same code) (test_provenance.py, line ")
    assert told.endswith(": `return torch.sqrt(torch.sqrt(image)) + 1`)")
    assert describe_place([]) == ""
