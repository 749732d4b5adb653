"""Whatever a network returns, its wrapper returns alpha in [0, 1] at input size, or says why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from mobile_matting_export.alpha_network import AlphaNetwork, detect_head, pick_output, to_alpha
from mobile_matting_export.errors import UsageError
from mobile_matting_export.networks.spec import Head

IMAGE = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))


class Returns(nn.Module):
    """A network that computes its result from the image by one function."""

    def __init__(self, compute: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, image: torch.Tensor) -> object:
        return self.compute(image)


def scores(image: torch.Tensor) -> torch.Tensor:
    """Two maps of any real numbers: background, foreground."""
    return image[:, :2] * 9 - 4


def logit(image: torch.Tensor) -> torch.Tensor:
    """One map of any real numbers."""
    return image[:, :1] * 9 - 4


def matte(image: torch.Tensor) -> torch.Tensor:
    """One map in [0, 1]."""
    return image[:, :1]


def alpha_of(compute: Callable[[torch.Tensor], object], head: Head) -> torch.Tensor:
    return AlphaNetwork(Returns(compute), head).eval()(IMAGE)


# --- every kind of head ------------------------------------------------------------------------------


@pytest.mark.parametrize("foreground", [0, 1])
def test_logits_become_the_softmax_of_the_foreground(foreground: int) -> None:
    difference = scores(IMAGE)[:, [foreground]] - scores(IMAGE)[:, [1 - foreground]]
    alpha = alpha_of(scores, Head("logits", foreground=foreground))
    torch.testing.assert_close(alpha, torch.sigmoid(difference), atol=1e-6, rtol=0)


def test_logits_of_more_than_two_classes_are_taken_together() -> None:
    alpha = alpha_of(lambda image: image * 5, Head("logits", foreground=2))
    torch.testing.assert_close(alpha, torch.softmax(IMAGE * 5, 1)[:, 2:3])


def test_probabilities_are_taken_as_they_are() -> None:
    alpha = alpha_of(lambda image: torch.softmax(scores(image), 1), Head("probabilities", foreground=0))
    assert torch.equal(alpha, torch.softmax(scores(IMAGE), 1)[:, :1])


def test_a_logit_becomes_its_sigmoid() -> None:
    assert torch.equal(alpha_of(logit, Head("logit")), torch.sigmoid(logit(IMAGE)))


def test_alpha_that_overshoots_is_clamped() -> None:
    alpha = alpha_of(logit, Head("alpha"))
    assert torch.equal(alpha, logit(IMAGE).clamp(0, 1))
    assert alpha.min() == 0 and alpha.max() == 1


@pytest.mark.parametrize("kind", ["alpha", "logit", "logits", "probabilities"])
def test_every_kind_gives_one_map_in_the_unit_interval(kind: str) -> None:
    output = torch.softmax(scores(IMAGE), 1) if kind == "probabilities" else scores(IMAGE)
    given = output[:, :1] if kind in ("alpha", "logit") else output
    alpha = to_alpha(given, Head(kind))  # type: ignore[arg-type]
    assert alpha.shape == (1, 1, 16, 24)
    assert alpha.min() >= 0 and alpha.max() <= 1


# --- where the output is, and its size ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "output", "expected"),
    [
        ([logit(IMAGE), matte(IMAGE)], 0, logit(IMAGE)),
        ((logit(IMAGE), matte(IMAGE)), 1, matte(IMAGE)),
        ((logit(IMAGE), matte(IMAGE)), None, matte(IMAGE)),
        ({"coarse": logit(IMAGE), "fine": matte(IMAGE)}, 0, logit(IMAGE)),
        ({"coarse": logit(IMAGE), "fine": matte(IMAGE)}, None, matte(IMAGE)),
        (matte(IMAGE), None, matte(IMAGE)),
    ],
    ids=["list", "tuple", "last_of_tuple", "dict", "last_of_dict", "tensor"],
)
def test_pick_output_takes_the_named_result(result: object, output: int | None, expected: torch.Tensor) -> None:
    assert torch.equal(pick_output(result, Head("alpha", output)), expected)


@pytest.mark.parametrize(
    ("result", "output", "message"),
    [
        ((matte(IMAGE),), 1, "returns 1 results: there is no result 1"),
        ((), None, "returns 0 results"),
        ((matte(IMAGE), matte(IMAGE)), -1, "there is no result -1"),
        ((matte(IMAGE), "text"), None, "returns str where a map"),
        (None, None, "returns NoneType where a map"),
        (torch.ones(16, 24), None, "returns 16x24 where a map"),
    ],
)
def test_pick_output_refuses_odd_results(result: object, output: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pick_output(result, Head("alpha", output))


@pytest.mark.parametrize("factor", [2, 8])
def test_an_output_of_low_resolution_is_enlarged_to_the_input(factor: int) -> None:
    def coarse(image: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(scores(image), factor)

    alpha = alpha_of(coarse, Head("logits"))
    small = torch.softmax(coarse(IMAGE), 1)[:, 1:]
    assert small.shape[2:] == (16 // factor, 24 // factor)
    expected = functional.interpolate(small, size=(16, 24), mode="bilinear", align_corners=False)
    assert torch.equal(alpha, expected)


def test_an_output_larger_than_the_input_is_reduced_to_it() -> None:
    alpha = alpha_of(lambda image: functional.interpolate(matte(image), scale_factor=2), Head("alpha"))
    assert alpha.shape == (1, 1, 16, 24)


def test_states_are_concatenated_behind_the_image() -> None:
    net = AlphaNetwork(Returns(lambda image: image[:, 3:4] + 0 * image[:, 4:5]), Head("alpha"))
    previous = torch.full((1, 1, 16, 24), 0.25)
    assert torch.equal(net(IMAGE, previous, torch.ones_like(previous)), previous)


# --- finding the head of a stranger's network --------------------------------------------------------


@pytest.mark.parametrize(
    ("compute", "head"),
    [
        (scores, Head("logits")),
        (lambda image: torch.softmax(scores(image), 1), Head("probabilities")),
        (lambda image: torch.sigmoid(scores(image)), Head("logits")),
        (logit, Head("logit")),
        (lambda image: torch.sigmoid(logit(image)), Head("alpha")),
        (lambda image: (scores(image), matte(image)), Head("alpha", 1)),
        (lambda image: (matte(image), functional.avg_pool2d(matte(image), 4)), Head("alpha", 0)),
        (lambda image: {"alpha": matte(image), "coarse": matte(image)}, Head("alpha", 0)),
        (lambda image: (matte(image), image), Head("alpha", 0)),
        (lambda image: [scores(image), image.mean()], Head("logits", 0)),
        (lambda image: {"features": image, "matte": matte(image), "loss": None}, Head("alpha", 1)),
    ],
    ids=[
        "logits",
        "softmax",
        "two_sigmoids",
        "logit",
        "sigmoid",
        "matte_over_classes",
        "full_size_over_coarse",
        "named_alpha",
        "features_last",
        "scalar_last",
        "dict",
    ],
)
def test_detect_head_finds_alpha_and_its_form(compute: Callable[[torch.Tensor], object], head: Head) -> None:
    assert detect_head(Returns(compute), IMAGE) == head
    alpha = alpha_of(compute, head)
    assert alpha.shape == (1, 1, 16, 24) and alpha.min() >= 0 and alpha.max() <= 1


@pytest.mark.parametrize(
    ("compute", "shapes"),
    [
        (lambda image: image, "1x3x16x24"),
        (lambda image: image[:, 0], "1x16x24"),
        (lambda image: (image, image.mean((2, 3))), "1x3x16x24, 1x3"),
        (lambda image: "text", "no tensor"),
        (lambda image: None, "no tensor"),
        (lambda image: (), "no tensor"),
        (lambda image: {"matte": [matte(image)]}, "no tensor"),
    ],
    ids=["three_channels", "no_channel_axis", "classes", "text", "nothing", "empty", "nested"],
)
def test_detect_head_refuses_odd_results(compute: Callable[[torch.Tensor], object], shapes: str) -> None:
    with pytest.raises(UsageError, match=rf"Returns returns {shapes}: no map 1x1xHxW \(alpha\) or 1x2xHxW"):
        detect_head(Returns(compute), IMAGE)


def test_detect_head_explains_a_failing_forward_pass() -> None:
    net = nn.Conv2d(4, 1, 3)
    with pytest.raises(UsageError, match=r"Conv2d failed on an input of 1x3x16x24: .*--size") as caught:
        detect_head(net, IMAGE)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_detect_head_refuses_a_matte_of_nan() -> None:
    with pytest.raises(UsageError, match="NaN"):
        detect_head(Returns(lambda image: matte(image) * float("nan")), IMAGE)


def test_detect_head_refuses_to_choose_between_equals() -> None:
    with pytest.raises(UsageError, match=r"1x1x16x24, 1x1x16x24: more than one may be alpha; .* key 'alpha'"):
        detect_head(Returns(lambda image: (matte(image), matte(image))), IMAGE)


def test_detect_head_believes_the_user_about_kind_and_foreground() -> None:
    net = Returns(lambda image: (matte(image), scores(image)))
    assert detect_head(net, IMAGE, "logits", 0) == Head("logits", 1, 0)
    assert detect_head(net, IMAGE, "logit") == Head("logit", 0)
