"""Small weights become zero, the channels they leave empty go, and the claim is not that it is exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.cost import count_parameters
from mobile_matting_export.graph.ops import CONV
from mobile_matting_export.graph.surgery import shape
from mobile_matting_export.rewrites.eliminate_dead_channels import ELIMINATE_DEAD_CHANNELS
from mobile_matting_export.rewrites.rewrite import apply_rewrites
from mobile_matting_export.rewrites.zero_small_weights import zero_small_weights
from mobile_matting_export.targets import find_target, slimmed


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.Conv2d(8, 1, 3, 1, 1)
        with torch.no_grad():
            self.first.weight[5:] *= 1e-4  # at most 1.9e-5
            self.second.weight[:, :2] *= 1e-4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.second(torch.relu(self.first(x))))


@pytest.mark.parametrize("size", [(16, 16), (13, 7)])
def test_near_dead_channels_go_and_the_error_is_in_the_ledger(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    graph = capture(TwoLayers().eval(), {"image": image})
    rewrites = (zero_small_weights(1e-3), ELIMINATE_DEAD_CHANNELS)
    slim, (zeroed, removed) = apply_rewrites(graph, rewrites, [(image,)])

    first = next(node for node in slim.graph.nodes if node.target is CONV)
    assert shape(first)[1] < 8 - 4  # five channels are almost dead, and the ordinary weights below 1e-3 are few
    assert count_parameters(slim) < count_parameters(graph) / 2
    assert not zeroed.exact and zeroed.changes == 2 and removed.exact
    assert 0 < zeroed.max_abs_error < 1e-3 and removed.max_abs_error < 1e-6


def test_below_all_weights_nothing_changes() -> None:
    image = torch.rand(1, 3, 9, 9)
    graph = capture(TwoLayers().eval(), {"image": image})
    _, (zeroed,) = apply_rewrites(graph, (zero_small_weights(1e-12),), [(image,)])
    assert zeroed.changes == 0 and zeroed.max_abs_error == 0


def test_a_layer_is_never_left_without_weights() -> None:
    image = torch.rand(1, 3, 9, 9)
    graph = capture(TwoLayers().eval(), {"image": image})
    same, (zeroed,) = apply_rewrites(graph, (zero_small_weights(10),), [(image,)])
    assert zeroed.changes == 0 and len(zeroed.refusals) == 2
    assert "all its weights are below 10" in zeroed.refusals[0]
    assert count_parameters(same) == count_parameters(graph)


def test_a_second_run_changes_nothing() -> None:
    image = torch.rand(1, 3, 9, 9)
    graph = capture(TwoLayers().eval(), {"image": image})
    _, (_, again) = apply_rewrites(graph, (zero_small_weights(1e-3), zero_small_weights(1e-3)), [(image,)])
    assert again.changes == 0


@pytest.mark.parametrize("name", ["tflite-cpu", "tflite-gpu", "ncnn-cpu", "ncnn-vulkan", "onnx"])
def test_a_target_slims_right_before_dead_channels_are_looked_for(name: str) -> None:
    target = find_target(name)
    names = [rewrite.name for rewrite in slimmed(target, 1e-4).rewrites]
    place = names.index("zero_small_weights")
    assert names[place + 1] == "eliminate_dead_channels"
    assert [*names[:place], *names[place + 1 :]] == [rewrite.name for rewrite in target.rewrites]
    assert slimmed(target, None) is target
