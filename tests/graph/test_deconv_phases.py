"""Which transposed convolutions are plain ones with interleaved results, and why others are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.deconv_phases import why_no_phases
from mobile_matting_export.graph.ops import DECONV, is_op


def ask(layer: nn.ConvTranspose2d) -> str | None:
    graph_module = capture(layer.eval(), {"x": torch.zeros(1, 4, 6, 8)})
    (node,) = (node for node in graph_module.graph.nodes if is_op(node, DECONV))
    return why_no_phases(graph_module, node)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(4, 2, 4, 2, 1),
        nn.ConvTranspose2d(4, 2, 3, 3, bias=False),
        nn.ConvTranspose2d(4, 2, (2, 5), 2),
    ],
    ids=str,
)
def test_one_kernel_moved_by_whole_blocks_has_phases(layer: nn.ConvTranspose2d) -> None:
    assert ask(layer) is None


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=2), "it has 2 groups"),
        (nn.ConvTranspose2d(4, 2, 3, 2, dilation=2), "its dilation is (2, 2)"),
        (nn.ConvTranspose2d(4, 2, 3, (1, 2)), "its stride is (1, 2)"),
        (nn.ConvTranspose2d(4, 2, 3), "its stride is (1, 1)"),
    ],
    ids=str,
)
def test_others_say_why_not(layer: nn.ConvTranspose2d, reason: str) -> None:
    assert ask(layer) == reason


def test_a_computed_weight_is_none_that_can_be_rearranged() -> None:
    class Computed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.conv_transpose2d(x, x[:, :, :4, :4].transpose(0, 1), stride=2)

    graph_module = capture(Computed().eval(), {"x": torch.zeros(1, 4, 6, 8)})
    (node,) = (node for node in graph_module.graph.nodes if is_op(node, DECONV))
    assert why_no_phases(graph_module, node) == "its weight or bias is computed"
