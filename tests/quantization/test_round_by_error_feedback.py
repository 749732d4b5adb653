"""Rounding by error feedback: outputs move less than by rounding to the nearest, and nothing needs to know of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.ops import CONV, is_op
from mobile_matting_export.graph.surgery import constant
from mobile_matting_export.quantization.alter_frame import Frame
from mobile_matting_export.quantization.fake_quantize import round_weight, weight_scales
from mobile_matting_export.quantization.round_by_error_feedback import round_by_error_feedback, round_rows
from mobile_matting_export.rewrites.rewrite import apply_rewrites


class Net(nn.Module):
    """A strided, a dilated and a depthwise convolution, a zero weight, and a box filter."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.second = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.box = nn.Conv2d(8, 1, 3, padding=1, bias=False)
        with torch.no_grad():
            for part in (self.first, self.second, self.depthwise):
                part.weight.normal_(generator=generator).pow_(3)
            self.second.weight[1, 2] = 0.0
            self.box.weight.fill_(1 / 72)
            for biased in (self.second, self.depthwise):
                assert biased.bias is not None
                biased.bias.normal_(generator=generator)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        deep = torch.relu(self.second(torch.relu(self.first(image))))
        return self.box(self.depthwise(deep))


def make_frames(count: int, seed: int) -> list[Frame]:
    """Blurred noise: neighbours are alike, as in pictures."""
    coarse = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return [(image[None] + 0.5,) for image in nn.functional.interpolate(coarse, (24, 24), mode="bicubic")]


FRAMES, OTHERS = make_frames(8, 1), make_frames(8, 2)


@pytest.fixture(scope="module")
def graph() -> fx.GraphModule:
    return capture(Net().eval(), {"image": FRAMES[0][0]})


@pytest.fixture(scope="module")
def rounded(graph: fx.GraphModule) -> fx.GraphModule:
    made, (step,) = apply_rewrites(graph, (round_by_error_feedback(FRAMES),), FRAMES[:1])
    assert (step.name, step.changes, step.exact) == ("round_by_error_feedback", 2, False)
    return made


def weights(graph: fx.GraphModule) -> list[torch.Tensor]:
    found = [constant(graph, node.args[1]) for node in graph.graph.nodes if is_op(node, CONV)]
    return [weight for weight in found if weight is not None]


def round_to_nearest(graph: fx.GraphModule) -> fx.GraphModule:
    made = copy.deepcopy(graph)
    for node in [node for node in made.graph.nodes if is_op(node, CONV)][:2]:
        name = str(node.args[1].target)
        made.register_buffer(name, round_weight(made.get_buffer(name), 0))
    return made


def error(graph: fx.GraphModule, other: fx.GraphModule) -> float:
    with torch.no_grad():
        return sum(float((graph(*frame) - other(*frame)).square().mean()) for frame in OTHERS) ** 0.5


def test_frames_that_were_not_seen_err_less_than_half_of_what_the_nearest_gives(
    graph: fx.GraphModule, rounded: fx.GraphModule
) -> None:
    assert 0 < error(graph, rounded) < 0.5 * error(graph, round_to_nearest(graph))


def test_rounding_again_to_the_nearest_changes_nothing(graph: fx.GraphModule, rounded: fx.GraphModule) -> None:
    for before, after in list(zip(weights(graph), weights(rounded), strict=True))[:2]:
        torch.testing.assert_close(weight_scales(after, 0), weight_scales(before, 0), rtol=1e-6, atol=0)
        torch.testing.assert_close(round_weight(after, 0), after, rtol=1e-6, atol=0)
        assert not torch.equal(after, round_weight(before, 0))


def test_a_zero_weight_stays_zero_and_box_and_depthwise_stay_as_they_are(
    graph: fx.GraphModule, rounded: fx.GraphModule
) -> None:
    before, after = weights(graph), weights(rounded)

    assert not after[1][1, 2].any()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(before[2:], after[2:], strict=True))


def test_the_mean_of_every_output_is_kept_on_the_frames_seen() -> None:
    net = nn.Conv2d(3, 4, 3, bias=False)
    graph = capture(net.eval(), {"image": FRAMES[0][0]})
    made, _ = apply_rewrites(graph, (round_by_error_feedback(FRAMES),), FRAMES[:1])
    with torch.no_grad():
        wanted, found = (torch.cat([one(*frame) for frame in FRAMES]).mean((0, 2, 3)) for one in (graph, made))

    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_the_same_frames_give_the_same_weights(graph: fx.GraphModule, rounded: fx.GraphModule) -> None:
    again, _ = apply_rewrites(graph, (round_by_error_feedback(FRAMES),), FRAMES[:1])

    assert all(torch.equal(mine, theirs) for mine, theirs in zip(weights(again), weights(rounded), strict=True))


def test_inputs_that_are_always_equal_share_what_is_to_be_rounded() -> None:
    rows = torch.tensor([[0.4, 0.4, 127.0]]).double()
    covariance = torch.block_diag(torch.ones(2, 2), torch.ones(1, 1)).double()

    rounded = round_rows(rows, torch.ones(1).double(), covariance)

    # each alone would be rounded to 0, together they come to 1
    assert rounded.sum(1).tolist() == [128.0]


def test_inputs_that_never_vary_are_rounded_to_the_nearest() -> None:
    rows = torch.tensor([[0.4, 0.6, -127.0], [0.0, 0.0, 0.0]]).double()

    rounded = round_rows(rows, torch.ones(2).double(), torch.zeros(3, 3).double())

    assert rounded.tolist() == [[0.0, 1.0, -127.0], [0.0, 0.0, 0.0]]
