from __future__ import annotations

import torch
from torch import nn

from mobile_matting_export.graph.affine import affine_of_norm
from mobile_matting_export.graph.capture import capture


def test_affine_of_a_norm_is_what_the_norm_computes() -> None:
    norm = nn.BatchNorm2d(3, eps=1e-2)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.uniform_(0.2, 2, generator=torch.Generator().manual_seed(0))
    image = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    graph = capture(norm, {"image": image})
    node = next(node for node in graph.graph.nodes if node.op == "call_function")

    affine = affine_of_norm(graph, node)

    assert affine.scale.dtype == affine.shift.dtype == torch.float64
    computed = affine.scale.view(3, 1, 1) * image + affine.shift.view(3, 1, 1)
    torch.testing.assert_close(computed, norm.double()(image.double()), rtol=0, atol=1e-6)
    assert torch.equal(affine.part(1, 3).shift, affine.shift[1:])
    assert not affine.without_shift().shift.any()
