"""Simulated int8 rounds where runtimes round, on their grids."""

from __future__ import annotations

import torch
from torch import nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.quantization.fake_quantize import (
    Arithmetic,
    FakeInt8,
    has_int8_weights,
    round_map,
    round_weight,
    rounded_maps,
    weight_scales,
)
from mobile_matting_export.quantization.ranges import Range


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.first(image))
        joined = torch.cat((first, nn.functional.max_pool2d(self.second(first), 3, 1, 1)), 1)
        return torch.sigmoid(self.head(joined)) * 0.5


def test_activations_are_rounded_behind_what_takes_them_in_and_the_tail_is_float() -> None:
    graph = capture(Net().eval(), {"image": torch.randn(1, 3, 8, 8)})

    operations = [node.name for node in rounded_maps(graph, "operations")]
    convolutions = [node.name for node in rounded_maps(graph, "convolutions")]

    assert operations == ["image", "relu", "conv2d_1", "cat", "conv2d_2"]
    assert convolutions == ["image", "relu", "cat"]


def test_where_convolutions_alone_are_int8_other_readers_get_a_map_as_it_was() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(image) + image

    image = torch.randn(1, 3, 8, 8)
    graph = capture(Skip().eval(), {"image": image})
    ranges = {"image": Range(-2.0, 2.0)}

    with torch.no_grad():
        found = FakeInt8(graph, ranges, "convolutions", {}).run(image)
        rounded = round_map(image, -2.0, 2.0, "convolutions")
        wanted = graph(rounded) - rounded + image

    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_ncnn_computes_no_convolution_with_groups_in_int8_and_no_transposed_one() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Conv2d(3, 4, 1)
            self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
            self.up = nn.ConvTranspose2d(4, 1, 2, 2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.up(self.depthwise(self.dense(image)))

    graph = capture(Mixed().eval(), {"image": torch.randn(1, 3, 8, 8)})
    each: tuple[Arithmetic, ...] = ("operations", "convolutions")
    by_arithmetic = {
        arithmetic: [node.name for node in graph.graph.nodes if has_int8_weights(node, arithmetic)]
        for arithmetic in each
    }

    assert by_arithmetic == {"operations": ["conv2d", "conv2d_1", "conv_transpose2d"], "convolutions": ["conv2d"]}
    assert [node.name for node in rounded_maps(graph, "convolutions")] == ["image"]


def test_a_map_has_256_values_with_a_zero_point_and_255_without() -> None:
    values = torch.linspace(-1, 4, 5001)

    affine, symmetric = round_map(values, -0.5, 2.0, "operations"), round_map(values, -2.0, 2.0, "convolutions")

    assert len(affine.unique()) == 256
    assert (affine == 0).any()
    torch.testing.assert_close(affine.aminmax(), (torch.tensor(-0.5), torch.tensor(2.0)), rtol=0, atol=2.5 / 255 / 2)
    assert len(symmetric.unique()) == 127 + 1 + 64  # down to -1 only
    assert float(symmetric.max()) == 2.0
    assert round_map(values, 0.0, 0.0, "operations") is values


def test_a_weight_keeps_its_largest_value_in_every_output_and_is_rounded_once() -> None:
    weight = torch.randn(3, 4, 3, 3) * torch.tensor([0.01, 1.0, 0.0]).view(-1, 1, 1, 1)

    rounded = round_weight(weight, 0)

    torch.testing.assert_close(rounded.abs().amax((1, 2, 3)), weight.abs().amax((1, 2, 3)), rtol=1e-6, atol=0)
    error = (rounded - weight).abs().amax((1, 2, 3))
    assert bool((error <= 0.501 * weight_scales(weight, 0)).all())
    torch.testing.assert_close(round_weight(rounded, 0), rounded, rtol=1e-6, atol=0)


def test_rounding_hands_gradients_on_but_where_it_clips() -> None:
    values = torch.tensor([-3.0, 0.3, 0.7, 5.0], requires_grad=True)

    round_map(values, -1.0, 1.0, "operations").sum().backward()

    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 0]


def test_dynamic_arithmetic_takes_the_range_of_the_frame() -> None:
    graph = capture(Net().eval(), {"image": torch.randn(1, 3, 8, 8)})
    names = dict.fromkeys([node.name for node in rounded_maps(graph, "dynamic")], Range(0.0, 0.0))
    image = torch.randn(1, 3, 8, 8)

    with torch.no_grad():
        errors = [
            float((FakeInt8(graph, names, "dynamic", {}).run(frame) - graph(frame)).abs().max())
            for frame in (image, image / 100)
        ]

    assert list(names) == ["image", "relu", "cat"]
    assert 0 < errors[0] < 0.01
    assert 0 < errors[1] < 0.01


def test_the_graph_is_float_without_ranges_and_rounds_with_them() -> None:
    image = torch.randn(1, 3, 8, 8)
    graph = capture(Net().eval(), {"image": image})
    ranges = {node.name: Range(-4.0, 4.0) for node in rounded_maps(graph, "operations")}
    with torch.no_grad():
        wanted = graph(image)
        assert torch.equal(FakeInt8(graph, {}, "operations", {}).run(image), wanted)
        error = (FakeInt8(graph, ranges, "operations", {}).run(image) - wanted).abs().max()
    assert 0 < float(error) < 0.05
