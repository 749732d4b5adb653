"""What a stranger's network takes beside the image is found, or asked for in a sentence that says what to write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mobile_matting_export.alpha_network import AlphaNetwork, describe_head, detect_head
from mobile_matting_export.errors import UsageError
from mobile_matting_export.find_states import find_states
from mobile_matting_export.network import bake_normalization, load_network
from mobile_matting_export.networks.spec import Head, StateSpec

SIZE = (16, 24)
IMAGE = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
RECURRENT = Path(__file__).parent / "strangers" / "recurrent.py"


def network(forward: Callable[..., object], **declared: Any) -> nn.Module:
    """A module with this ``forward`` and this declaration, if any."""
    members = {"forward": staticmethod(forward)} | ({"state_inputs": declared} if declared else {})
    return type("Net", (nn.Module,), members)()


def mask(image: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    return 0.5 * image[:, :1] + 0.5 * before


def tuple_of(image: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return image[:, :1], hidden + image[:, :1, ::4, ::4]


def named(image: torch.Tensor, mask: torch.Tensor, *, r1: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"r1": r1 * 2, "alpha": image[:, 1:2], "edges": image}


# --- the declaration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forward", "declared", "states"),
    [
        (lambda image: image, {}, ()),
        (lambda image, inference=True, *rest, **more: image, {}, ()),
        (mask, {}, (StateSpec("before", enters="argument"),)),
        (mask, {"before": "alpha"}, (StateSpec("before", enters="argument"),)),
        (tuple_of, {"hidden": (8, 0.25)}, (StateSpec("hidden", 8, "next_hidden", 0.0, (4, 6), "argument"),)),
        (tuple_of, {"hidden": (8, 1)}, (StateSpec("hidden", 8, "next_hidden", 0.0, SIZE, "argument"),)),
        (tuple_of, {"hidden": [8, 5, 7]}, (StateSpec("hidden", 8, "next_hidden", 0.0, (5, 7), "argument"),)),
        (
            named,
            {"r1": (2, 1 / 2)},
            (StateSpec("mask", enters="argument"), StateSpec("r1", 2, "next_r1", 0.0, (8, 12), "argument")),
        ),
        (
            lambda image, r1=None, ratio=1.0: image,
            {"r1": (2, 1 / 8)},
            (StateSpec("r1", 2, "next_r1", 0.0, (2, 3), "argument"),),
        ),
    ],
    ids=["none", "optional", "mask", "said", "hidden", "whole", "exact", "both", "optional_declared"],
)
def test_states_follow_signature_and_declaration(
    forward: Callable[..., object], declared: dict[str, Any], states: tuple[StateSpec, ...]
) -> None:
    assert find_states(network(forward, **declared), SIZE) == states


@pytest.mark.parametrize(
    ("forward", "declared", "message"),
    [
        (tuple_of, {"hiden": (8, 0.25)}, r"names 'hiden', which its forward does not take beside the image: hidden"),
        (lambda image: image, {"hidden": (8, 0.25)}, "beside the image: nothing"),
        (tuple_of, {"hidden": 8}, r'declared as 8: write state_inputs = \{"hidden": \(16, 1 / 4\)\} \(channels, size'),
        (tuple_of, {"hidden": (8, 0)}, r"declared as \(8, 0\): write state_inputs"),
        (tuple_of, {"hidden": (8, 4)}, r"declared as \(8, 4\): write"),
        (tuple_of, {"hidden": (8, 1 / 5)}, r"hidden is declared as 0.2 of the image, of 16x24 is 3.2x4.8; choose"),
        (lambda image, alpha: image, {}, "calls a state 'alpha': rename it"),
        (lambda x, image: x, {}, "calls a state 'image': rename it"),
        (lambda image, r, next_r: image, {}, "calls a state 'r': rename it"),
    ],
)
def test_a_wrong_declaration_is_refused(forward: Callable[..., object], declared: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_states(network(forward, **declared), SIZE)


def test_a_declaration_that_is_no_dict_is_refused() -> None:
    net = network(tuple_of)
    net.state_inputs = ["hidden"]  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"Net.state_inputs is \['hidden'\], not a dict: write state_inputs = \{"):
        find_states(net, SIZE)


# --- the results -------------------------------------------------------------------------------------


def detect(forward: Callable[..., object], **declared: Any) -> tuple[AlphaNetwork, Head]:
    net = network(forward, **declared)
    states = find_states(net, SIZE)
    head = detect_head(net, IMAGE, states=states)
    return AlphaNetwork(net, head, states=states).eval(), head


def test_a_previous_alpha_is_given_and_alpha_returned() -> None:
    wrapped, head = detect(mask)
    assert head == Head("alpha")
    torch.testing.assert_close(wrapped(IMAGE, torch.ones(1, 1, *SIZE)), 0.5 * IMAGE[:, :1] + 0.5)


def test_states_are_the_last_of_a_tuple() -> None:
    wrapped, head = detect(tuple_of, hidden=(1, 1 / 4))
    assert head == Head("alpha", 0)
    alpha, hidden = wrapped(IMAGE, torch.ones(1, 1, 4, 6))
    assert torch.equal(alpha, IMAGE[:, :1]) and torch.equal(hidden, IMAGE[:, :1, ::4, ::4] + 1)


def test_results_by_name_are_told_apart_by_name() -> None:
    net = network(named, mask="alpha", r1=(2, 1 / 2))
    states = find_states(net, SIZE)
    head = detect_head(net, IMAGE, states=states)
    assert head == Head("alpha", 0), "the place among what is no state"
    alpha, r1 = AlphaNetwork(net, head, states=states)(IMAGE, torch.ones(1, 1, *SIZE), torch.ones(1, 2, 8, 12))
    assert torch.equal(alpha, IMAGE[:, 1:2]) and torch.equal(r1, torch.full((1, 2, 8, 12), 2.0))
    assert describe_head(head, states).endswith(
        "; mask 1x1xHxW is the alpha of the frame before; r1 1x2x8x12 is the next_r1 of the frame before"
    )


@pytest.mark.parametrize(
    ("forward", "declared", "message"),
    [
        (
            mask,
            {"before": (1, 1)},
            r"declares before, but the network returns no tuple that long: return .* alpha, before",
        ),
        (lambda image, h: (image[:, :1],), {"h": (1, 1)}, "declares h, but the network returns no tuple that long"),
        (lambda image, h: {"alpha": image, "hidden": h}, {"h": (1, 1)}, "returns a dict of alpha, hidden"),
        (tuple_of, {"hidden": (1, 1 / 2)}, r"failed on .* It must take one tensor 1x3xHxW .*, and hidden 1x1x8x12"),
        (
            lambda image, hidden: (hidden, image[:, :1]),
            {"hidden": (2, 1 / 4)},
            "returns 1x1x16x24 float32 as the new value of hidden, which is declared as 1x2x4x6 float32: correct",
        ),
        (lambda image, hidden: (image[:, :1], None), {"hidden": (2, 1 / 4)}, "returns NoneType as the new value"),
        (lambda image, h: (image[:, :1], h / 0 * 0), {"h": (2, 1 / 4)}, "NaN or infinity as the new value of h on"),
        (tuple_of, {}, r"failed on .*: if it is another map, say so on the network: state_inputs = \{\"hidden\""),
        (
            lambda image, before: (image[:, :1], before),
            {},
            r"takes before and returns 2 results: say .* is returned, state_inputs = \{\"before\": \"alpha\"\}",
        ),
    ],
)
def test_results_that_do_not_fit_the_declaration_are_refused(
    forward: Callable[..., object], declared: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        detect(forward, **declared)


# --- loaded ------------------------------------------------------------------------------------------


def test_a_loaded_network_knows_its_inputs_and_outputs() -> None:
    loaded = load_network(f"{RECURRENT}:both", size=(32, 48))
    shapes = {name: tuple(example.shape) for name, example in loaded.examples().items()}
    assert shapes == {"image": (1, 3, 32, 48), "mask": (1, 1, 32, 48), "r1": (1, 8, 16, 24), "r2": (1, 8, 8, 12)}
    assert loaded.outputs == ("alpha", "next_r1", "next_r2")
    results = loaded.module(*loaded.examples().values())
    assert [tuple(result.shape) for result in results] == [(1, 1, 32, 48), (1, 8, 16, 24), (1, 8, 8, 12)]


def test_states_stay_where_the_normalization_goes_into_the_file() -> None:
    loaded = load_network(f"{RECURRENT}:recurrent", size=(32, 48))
    pixels = bake_normalization(loaded, "pixels")
    hidden = torch.rand(1, 8, 8, 12)
    image = torch.rand(1, 3, 32, 48)
    for ours, theirs in zip(pixels.module(image * 255, hidden), loaded.module(image, hidden), strict=True):
        torch.testing.assert_close(ours, theirs)
