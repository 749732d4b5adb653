"""Every network listed reproduces what its original code computed, key by key and value by value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from mobile_matting_export.networks import ALL
from mobile_matting_export.networks.spec import ImageSpec, NetworkSpec

# absolute; another order of summation than the original's is all that may differ
TOLERANCE = 1e-4

# golden inputs are stored as float16
INPUT_ROUNDING = 1e-3

# width variants nobody published weights of: the parameter counts of the specification stand in
PARAMETERS_WITHOUT_GOLDEN = {"mmnet_050": 64_260, "mmnet_075": 120_428}

PARAMETERS = {
    **PARAMETERS_WITHOUT_GOLDEN,
    "mmnet": 190_652,
    "segmatting": 829_225,
    "portraitnet": 2_080_760,
    "portraitnet_video": 2_081_048,
    "modnet": 6_487_075,
    "ldn_fb": 25_641,
    "mobilenet_dilate_unet": 2_378_217,
    "esp_dense_seg": 240_777,
    "residualdense_bisenet": 142_761,
    "shuffle_seg_skipnet": 918_731,
}

# what the golden files call an output of each kind
OUTPUTS_OF_KIND = {
    "alpha": ("alpha", "matte"),
    "logit": ("logits",),
    "logits": ("logits", "seg_logits"),
    "probabilities": ("seg",),
}

# those that hold the picture their input was made from, and whose origin fixes the channel order
# (the paper of ldn_fb does not)
PICTURED = {"portraitnet_video", "segmatting"}


def _named(specs: Iterable[NetworkSpec]) -> list[object]:
    return [pytest.param(spec, id=spec.name) for spec in specs]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """The golden outputs were computed with two threads, which fixes the order of summation.

    With one thread portraitnet's logits, which reach 22, come out 1.5e-4 apart (alpha 4e-5).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Golden:
    """One golden file: weights, an input, and what the original code returned for it, in order."""

    state: dict[str, torch.Tensor]
    image: torch.Tensor
    results: dict[str, torch.Tensor]


def read_golden(spec: NetworkSpec, shared: Path) -> Golden:
    with safe_open(shared / "networks" / f"{spec.name}.safetensors", framework="pt") as file:
        keys = [key for key in list(file.keys()) if key.startswith("state/")]
        stored = {key.removeprefix("state/"): file.get_tensor(key) for key in keys}
        names = json.loads(file.metadata()["outputs"])
        return Golden(
            state={key: value.float() if value.is_floating_point() else value for key, value in stored.items()},
            image=file.get_tensor("input").float(),
            results={name: file.get_tensor(f"output/{name}") for name in names},
        )


def build_with(spec: NetworkSpec, stored: dict[str, torch.Tensor]) -> nn.Module:
    """The network with these weights; only ``num_batches_tracked`` may be absent from them."""
    network = spec.build_for_state(stored) if spec.build_for_state else spec.build()
    state = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    state |= stored
    for copy, first in spec.duplicates.items():
        state |= {copy + key.removeprefix(first): stored[key] for key in stored if key.startswith(first)}
    network.load_state_dict(state, strict=True)
    return network.eval()


def results_of(network: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    with torch.no_grad():
        results = network(image)
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


@pytest.mark.parametrize("spec", _named(spec for spec in ALL if spec.name not in PARAMETERS_WITHOUT_GOLDEN))
def test_network_reproduces_its_golden_outputs(spec: NetworkSpec, shared: Path) -> None:
    golden = read_golden(spec, shared)

    results = results_of(build_with(spec, golden.state), golden.image)

    returned = [result for result in results if result is not None]
    for name, result in zip(golden.results, returned, strict=True):
        expected = golden.results[name]
        assert result.shape == expected.shape, f"output {name}"
        error = (result - expected).abs().max().item()
        assert error <= TOLERANCE, f"output {name}"


@pytest.mark.parametrize("spec", _named(spec for spec in ALL if spec.name not in PARAMETERS_WITHOUT_GOLDEN))
def test_head_picks_the_golden_output_of_its_kind(spec: NetworkSpec, shared: Path) -> None:
    golden = read_golden(spec, shared)

    results = results_of(build_with(spec, golden.state), golden.image)

    assert (spec.head.output is None) == (len(results) == 1)
    picked = results[spec.head.output or 0]
    assert picked is not None
    expected = next(golden.results[name] for name in OUTPUTS_OF_KIND[spec.head.kind] if name in golden.results)
    torch.testing.assert_close(picked, expected, rtol=0, atol=TOLERANCE)
    if spec.head.kind in ("logits", "probabilities"):
        assert spec.head.foreground < picked.shape[1]
    else:
        assert picked.shape[1] == 1


@pytest.mark.parametrize("spec", _named(ALL))
def test_network_has_the_published_number_of_parameters(spec: NetworkSpec) -> None:
    assert sum(parameter.numel() for parameter in spec.build().parameters()) == PARAMETERS[spec.name]


@pytest.mark.parametrize("spec", _named(spec for spec in ALL if spec.name in PICTURED))
def test_image_spec_makes_the_golden_input_from_its_picture(spec: NetworkSpec, shared: Path) -> None:
    with safe_open(shared / "networks" / f"{spec.name}.safetensors", framework="pt") as file:
        picture, expected = file.get_tensor("image"), file.get_tensor("input").float()

    torch.testing.assert_close(normalized(picture, spec.image), expected[:, :3], rtol=0, atol=INPUT_ROUNDING)


def normalized(picture: torch.Tensor, image: ImageSpec) -> torch.Tensor:
    """H x W x 3 uint8 RGB to 1 x 3 x H x W as the network wants it, without resizing."""
    pixels = picture.float()
    if image.color == "BGR":
        pixels = pixels.flip(-1)
    return ((pixels - torch.tensor(image.mean)) * torch.tensor(image.scale)).permute(2, 0, 1).unsqueeze(0)
