"""One trial for every rewrite: capture, apply, and what must hold of any of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.surgery import tidy
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite, run_all


@dataclass(frozen=True)
class Trial:
    """A graph after one rewrite; ``error`` and ``ring_error`` are against the eager module."""

    graph: fx.GraphModule
    outcome: Outcome
    error: float
    ring_error: float

    def nodes(self, *targets: Any) -> list[fx.Node]:
        return [node for node in self.graph.graph.nodes if node.target in targets]

    def count(self, *targets: Any) -> int:
        return len(self.nodes(*targets))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Fills a module with seeded numbers that show mistakes: no unit variance, no zero bias, mixed signs."""
    return _randomise


@pytest.fixture(scope="session")
def attempt() -> Callable[..., Trial]:
    """``attempt(rewrite, module, shape, after=...)``: the rewrite on the module's graph, checked.

    Capture must be bit-identical to eager, new nodes must know their module, every node its true
    shape, and a second run must change nothing.
    """
    return _attempt


def _randomise(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.normal_(0, 0.5, generator=generator)
            part.running_var.uniform_(0.3, 3, generator=generator)
        if isinstance(part, (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d)) and part.weight is not None:
            nn.init.uniform_(part.weight, -1.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, 0.5, generator=generator)
        if isinstance(part, nn.PReLU):
            nn.init.uniform_(part.weight, -0.3, 0.5, generator=generator)
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.normal_(part.bias, 0, 0.5, generator=generator)
    return module.eval()


def _attempt(
    rewrite: Rewrite,
    module: nn.Module,
    shape: tuple[int, ...] = (1, 3, 37, 45),
    after: Sequence[Rewrite] = (),
) -> Trial:
    _randomise(module)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module(image.clone())
    graph = capture(module, {"image": image})
    assert torch.equal(run_all(graph, [(image,)])[0], expected)
    for earlier in after:
        earlier.apply(graph)
        tidy(graph)
    known = {node.name for node in graph.graph.nodes}

    outcome = rewrite.apply(graph)
    tidy(graph)

    for node in graph.graph.nodes:
        if node.op == "call_function" and node.name not in known:
            assert node.meta.get("nn_module_stack"), f"{node.name} does not know the module it comes from"
    _check_shapes(graph, image)
    _check_fixed_point(rewrite, graph)
    difference = (run_all(graph, [(image,)])[0] - expected).abs()
    return Trial(graph, outcome, float(difference.max()), _ring(difference))


def _check_shapes(graph: fx.GraphModule, image: torch.Tensor) -> None:
    class Checker(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            result = super().run_node(node)
            if isinstance(result, torch.Tensor) and node.op != "output":
                assert node.meta["shape"] == tuple(result.shape), node.name
            return result

    with torch.no_grad():
        Checker(graph).run(image)


def _check_fixed_point(rewrite: Rewrite, graph: fx.GraphModule) -> None:
    again = copy.deepcopy(graph)
    assert rewrite.apply(again).changes == 0
    tidy(again)
    assert again.code == graph.code


def _ring(difference: torch.Tensor) -> float:
    """The largest error on the outermost pixels, where padding shows."""
    if difference.dim() != 4:
        return float(difference.max())
    sides = (difference[:, :, 0], difference[:, :, -1], difference[..., 0], difference[..., -1])
    return max(float(side.max()) for side in sides)
