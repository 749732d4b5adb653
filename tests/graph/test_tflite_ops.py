from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.tflite_ops import CROP, DEPTH_TO_SPACE, RESIZE_BILINEAR_LEGACY, SPREAD_COLUMNS


def test_depth_to_space_puts_channels_where_tflite_does() -> None:
    # channels (p * 2 + q) * 3 + c of one pixel
    image = torch.arange(12.0).view(1, 12, 1, 1)

    assert DEPTH_TO_SPACE(image, 2)[0].tolist() == [[[0, 3], [6, 9]], [[1, 4], [7, 10]], [[2, 5], [8, 11]]]


def test_depth_to_space_is_pixel_shuffle_with_other_channels() -> None:
    image = torch.randn(2, 27, 5, 7)
    reordered = image.view(2, 9, 3, 5, 7).transpose(1, 2).reshape(2, 27, 5, 7)

    assert torch.equal(DEPTH_TO_SPACE(image, 3), torch.pixel_shuffle(reordered, 3))


def test_crop_cuts_both_axes() -> None:
    image = torch.randn(1, 2, 7, 9)

    assert torch.equal(CROP(image, 1, 2, 5, 4), image[:, :, 1:6, 2:6])
    assert torch.equal(CROP(image, 0, 0, 7, 9), image)


def test_spread_columns_leaves_numbers_where_they_are_with_channels_last() -> None:
    image = torch.randn(2, 6, 5, 7)

    spread = SPREAD_COLUMNS(image, 2)

    assert spread.shape == (2, 2, 5, 21)
    assert torch.equal(spread.permute(0, 2, 3, 1).flatten(), image.permute(0, 2, 3, 1).flatten())


@pytest.mark.parametrize("size", [(8, 6), (12, 9), (5, 4), (4, 3), (2, 1)], ids=str)
def test_legacy_resize_takes_its_points_from_the_top_left_corner(size: tuple[int, int]) -> None:
    image = torch.arange(12.0).view(1, 1, 4, 3)
    positions = [torch.arange(n) * side / n for n, side in zip(size, (4, 3), strict=True)]
    rows, columns = positions[0].clamp(max=3), positions[1].clamp(max=2)

    # the image is a plane, on which interpolation is exact
    expected = rows[:, None] * 3 + columns[None]
    torch.testing.assert_close(RESIZE_BILINEAR_LEGACY(image, *size)[0, 0], expected, rtol=0, atol=1e-6)


class Net(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        wide = RESIZE_BILINEAR_LEGACY(DEPTH_TO_SPACE(image, 2), 10, 11)
        return SPREAD_COLUMNS(torch.cat((CROP(wide, 1, 2, 8, 7),) * 2, 1), 1)


def test_operators_have_shapes_without_numbers_and_survive_capture() -> None:
    image = torch.randn(1, 4, 3, 5)

    assert Net()(image.to("meta")).shape == (1, 1, 8, 14)
    graph = capture(Net(), {"image": image})
    assert torch.equal(graph(image), Net()(image))
    targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert targets == [DEPTH_TO_SPACE, RESIZE_BILINEAR_LEGACY, CROP, torch.ops.aten.cat.default, SPREAD_COLUMNS]


@pytest.mark.parametrize(
    ("operator", "settings"),
    [
        (RESIZE_BILINEAR_LEGACY, (7, 5)),
        (RESIZE_BILINEAR_LEGACY, (2, 9)),
        (DEPTH_TO_SPACE, (2,)),
        (CROP, (1, 0, 2, 3)),
        (SPREAD_COLUMNS, (4,)),
    ],
    ids=lambda value: getattr(value, "_opname", str(value)),
)
def test_operators_can_be_trained_through(operator: Callable[..., torch.Tensor], settings: tuple[int, ...]) -> None:
    image = torch.randn(2, 8, 4, 3, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda given: operator(given, *settings), (image,))
