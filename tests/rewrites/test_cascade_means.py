from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.rewrites.cascade_means import CASCADE_MEANS

aten = torch.ops.aten


class Mean(nn.Module):
    def __init__(self, axes: tuple[int, ...] = (2, 3), keep: bool = True) -> None:
        super().__init__()
        self.axes, self.keep = axes, keep

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(self.axes, self.keep)


def windows(trial: Any) -> list[list[int]]:
    return [node.args[1] for node in trial.nodes(aten.avg_pool2d.default)]


@pytest.mark.parametrize("module", [Mean(), Mean((-1, -2)), nn.AdaptiveAvgPool2d(1)], ids=["mean", "back", "pool"])
def test_mean_over_a_map_becomes_small_average_pools(attempt: Any, module: nn.Module) -> None:
    trial = attempt(CASCADE_MEANS, nn.Sequential(module), (1, 3, 256, 128))

    assert trial.outcome.changes == 1
    assert windows(trial) == [[8, 8], [8, 8], [4, 2]]
    assert {module_path(node) for node in trial.nodes(aten.avg_pool2d.default)} == {"0"}
    assert trial.error < 1e-7


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((8, 9), [[8, 3], [1, 3]]),
        ((36, 45), [[6, 5], [6, 3], [1, 3]]),
        ((37, 45), [[37, 1], [1, 5], [1, 3], [1, 3]]),
        ((544, 96), [[8, 8], [4, 6], [17, 2]]),
        ((1, 512), [[1, 8], [1, 8], [1, 8]]),
        ((59, 61), [[59, 1], [1, 61]]),
        ((22, 26), [[2, 2], [11, 1], [1, 13]]),
    ],
    ids=str,
)
def test_windows_multiply_to_the_size_and_stay_small(
    attempt: Any, size: tuple[int, int], expected: list[list[int]]
) -> None:
    trial = attempt(CASCADE_MEANS, Mean(), (1, 3, *size))

    found = windows(trial)
    assert torch.tensor(found).prod(0).tolist() == list(size)
    assert max(a * b for a, b in found) <= 64
    assert trial.error < 1e-6
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("size", [(101, 64), (64, 127), (67, 71), (509, 1), (2 * 67, 3 * 73), (1, 251)], ids=str)
def test_large_prime_sides_take_weighted_sums_with_zero_padding(attempt: Any, size: tuple[int, int]) -> None:
    trial = attempt(CASCADE_MEANS, Mean(), (1, 3, *size))

    sums = trial.nodes(aten.conv2d.default)
    assert len(sums) >= 1
    assert all(node.args[6] == 3 for node in sums)
    assert all(max(node.meta["shape"][2:]) >= 1 and max(node.args[3]) <= 15 for node in sums)
    assert trial.error < 1e-6


def test_every_pixel_counts_the_same(attempt: Any) -> None:
    """The gradient of the mean, which is 1/n everywhere, borders included."""
    trial = attempt(CASCADE_MEANS, Mean(), (1, 3, 71, 134))
    image = torch.randn(1, 3, 71, 134, requires_grad=True)

    trial.graph(image).sum().backward()

    assert image.grad is not None
    torch.testing.assert_close(image.grad, torch.full_like(image, 1 / (71 * 134)), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("axes", "shape"), [((2,), (1, 3, 1, 45)), ((3,), (1, 3, 96, 1))])
def test_one_axis_is_averaged_alone(attempt: Any, axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    trial = attempt(CASCADE_MEANS, Mean(axes), (1, 3, 96, 45))

    assert trial.outcome.changes == (1 if axes == (2,) else 0)  # 45 numbers are no long sum
    assert trial.graph(torch.ones(1, 3, 96, 45)).shape == shape
    assert trial.error < 1e-6


@pytest.mark.parametrize(
    ("module", "refusals"),
    [
        (Mean(keep=False), ("mean at mean: kept, it drops the axes that it averages",)),
        (Mean((1,)), ()),
        (Mean((1, 2, 3)), ()),
        (nn.AdaptiveAvgPool2d(3), ()),
    ],
    ids=["dropped", "channels", "everything", "grid"],
)
def test_other_means_stay(attempt: Any, module: nn.Module, refusals: tuple[str, ...]) -> None:
    trial = attempt(CASCADE_MEANS, module, (1, 3, 96, 45))

    assert (trial.outcome.changes, trial.count(aten.avg_pool2d.default)) == (0, 0)
    assert trial.outcome.refusals == refusals


def test_small_maps_stay(attempt: Any) -> None:
    trial = attempt(CASCADE_MEANS, Mean(), (1, 3, 8, 8))

    assert (trial.outcome.changes, trial.count(aten.mean.dim)) == (0, 1)


def test_graph_without_means_is_left_alone(attempt: Any) -> None:
    trial = attempt(CASCADE_MEANS, nn.Conv2d(3, 4, 3))

    assert isinstance(trial.graph, fx.GraphModule)
    assert (trial.outcome.changes, trial.outcome.refusals) == (0, ())
