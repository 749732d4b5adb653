"""A student in simulated int8: what it was, what it learns by, what it writes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.ops import CONV, is_op
from mobile_matting_export.quantization.fake_quantize import Arithmetic, weight_scales
from mobile_matting_export.quantization.int8_student import Student


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.head = nn.ConvTranspose2d(4, 1, 2, 2)
        for part in (self.first, self.head):
            nn.init.normal_(part.weight, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.head(torch.relu(self.first(image))))


FRAMES = [(image[None],) for image in torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))]


@pytest.fixture(scope="module")
def graph() -> fx.GraphModule:
    return capture(Net().eval(), {"image": FRAMES[0][0]})


@pytest.mark.parametrize("arithmetic", ["operations", "convolutions", "dynamic"])
def test_it_begins_near_its_teacher_who_is_the_graph(graph: fx.GraphModule, arithmetic: Arithmetic) -> None:
    student = Student(graph, FRAMES, "minmax", arithmetic)
    with torch.no_grad():
        error = (student.matte(FRAMES[0]) - student.teach(FRAMES[0])).abs().max()

    assert torch.equal(student.teach(FRAMES[0]), graph(*FRAMES[0]))
    assert 0 < float(error) < 0.05


def test_every_parameter_gets_a_gradient_in_steps_of_8_bits(graph: fx.GraphModule) -> None:
    student = Student(graph, FRAMES, "minmax", "operations")
    student.matte(FRAMES[0]).sum().backward()
    student.collect_gradients()

    # two weights and two biases, of which the graph had one
    assert len(student.parameters) == 4
    assert all(moved.grad is not None and bool(moved.grad.any()) for moved in student.parameters)


def test_a_moved_parameter_moves_its_weight_by_as_many_steps(graph: fx.GraphModule) -> None:
    student = Student(graph, FRAMES, "minmax", "operations")
    before, after = copy.deepcopy(graph), copy.deepcopy(graph)
    assert student.write(before) == 2
    with torch.no_grad():
        student.parameters[0][0, 0, 0, 0] += 2
    student.refresh()
    student.write(after)

    first, second = (
        made.get_buffer(next(str(node.args[1].target) for node in made.graph.nodes if is_op(node, CONV)))
        for made in (before, after)
    )
    # the largest weight is elsewhere, so the scale is as before
    steps = (second - first) / weight_scales(first, 0).view(-1, 1, 1, 1)
    assert float(steps[0, 0, 0, 0]) == pytest.approx(2, abs=1e-3)
    assert int((steps.abs() > 1e-3).sum()) == 1


def test_the_graph_that_it_was_made_of_is_unchanged(graph: fx.GraphModule) -> None:
    before = graph.code

    Student(graph, FRAMES, "minmax", "operations")

    assert graph.code == before
