"""Contestants: a network frame by frame, its state fed back, and results that are no numbers refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from mobile_matting_export.contestant import network_contestant
from mobile_matting_export.errors import QualityError
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.networks.portraitnet import PORTRAITNET_VIDEO
from mobile_matting_export.networks.spec import ImageSpec

SIZE = (32, 32)
SPEC = dataclasses.replace(PORTRAITNET_VIDEO, image=ImageSpec())


class Fading(nn.Module):
    """Half the picture's brightness and half the alpha of the frame before."""

    def forward(self, image: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        return 0.5 * image.mean(dim=1, keepdim=True) + 0.5 * previous


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((48, 40, 3), 102, np.uint8)  # 0.4


def test_a_network_starts_from_its_initial_state_and_gets_its_alpha_back(grey: np.ndarray) -> None:
    contestant = network_contestant(LoadedNetwork(SPEC, "here", Fading(), None, SIZE))
    assert contestant.fed_back == {"previous_alpha": "alpha"}
    first, outputs = contestant.matte(grey)
    second, _ = contestant.matte(grey, outputs)
    assert first.shape == second.shape == grey.shape[:2]
    np.testing.assert_allclose(first, 0.2, atol=1e-6)
    np.testing.assert_allclose(second, 0.3, atol=1e-6)


def test_a_network_is_named_with_the_hash_of_its_weights(grey: np.ndarray) -> None:
    contestant = network_contestant(LoadedNetwork(SPEC, "here", Fading(), None, SIZE))
    assert contestant.title == f"{SPEC.name} PyTorch"
    assert contestant.source["network"] == "here" and len(contestant.source["sha256"]) == 64


def test_values_that_are_no_numbers_are_refused(grey: np.ndarray) -> None:
    contestant = network_contestant(LoadedNetwork(SPEC, "here", Fading(), None, SIZE))
    with pytest.raises(QualityError, match="not numbers"):
        contestant.matte(grey, {"alpha": np.full((1, 1, *SIZE), np.nan, np.float32)})
