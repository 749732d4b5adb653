from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import fx, nn
from torch.nn import functional as F

from mobile_matting_export.alpha_network import AlphaNetwork
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.simulate_fp16 import (
    ALL_HALF,
    HALF_SUMS,
    ROUNDED,
    HalfArithmetic,
    round_to_half,
    simulate_fp16,
)
from mobile_matting_export.images import list_pictures, load_picture, to_input
from mobile_matting_export.networks.modnet import MODNET
from mobile_matting_export.rewrites.rewrite import apply_rewrites
from mobile_matting_export.targets import find_target


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image)


def simulate(
    network: nn.Module | Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, arithmetic: HalfArithmetic
) -> torch.Tensor:
    module = network if isinstance(network, nn.Module) else Function(network)
    return simulate_fp16(capture(module, {"image": image}), [image], arithmetic)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_result_is_a_half_float() -> None:
    result = simulate(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 9, 9), ROUNDED)

    assert torch.equal(result, result.half().float())
    assert result.dtype == torch.float32


def test_what_passes_65504_is_infinite() -> None:
    result = simulate(lambda x: x * x, torch.tensor([255.0, 256.0]).view(1, 1, 1, 2), ROUNDED)

    assert result.flatten().tolist() == [65024.0, float("inf")]  # 65025 rounded to 11 bits


@pytest.mark.parametrize(("subnormals", "expected"), [("kept", 1.0013580322265625e-05), ("flushed", 0.0)])
def test_tiny_numbers_are_kept_or_flushed(subnormals: str, expected: float) -> None:
    arithmetic = HalfArithmetic("single", "single", subnormals)  # type: ignore[arg-type]

    assert float(round_to_half(torch.tensor(1e-5), arithmetic)) == expected
    zeros = torch.zeros(1, 1, 2, 2)
    assert float(simulate(lambda x: x + 1e-5, zeros, arithmetic).max()) == expected


def test_flat_channel_of_an_instance_norm_is_nan_where_eps_is_flushed() -> None:
    flat = torch.ones(1, 1, 4, 4)

    assert simulate(nn.InstanceNorm2d(1), flat, ROUNDED).abs().max() == 0
    assert simulate(nn.InstanceNorm2d(1), flat, HALF_SUMS).isnan().all()


@pytest.mark.parametrize(("reductions", "expected"), [("single", 3.0), ("half", float("inf"))])
def test_mean_overflows_only_in_a_half_register(reductions: str, expected: float) -> None:
    arithmetic = HalfArithmetic(reductions, "single", "kept")  # type: ignore[arg-type]
    image = torch.full((1, 2, 160, 160), 3.0)  # 76800 in all

    for module in (Function(lambda x: x.mean((2, 3), keepdim=True)), nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(160)):
        assert simulate(module, image, arithmetic).flatten().tolist() == [expected] * 2
    assert simulate(lambda x: x.sum((2, 3)), image, arithmetic).isinf().all(), "the sum itself is stored"


def test_terms_below_a_2048th_of_a_half_sum_are_lost() -> None:
    image = torch.ones(1, 1, 1, 4096)

    assert float(simulate(lambda x: x.mean((2, 3), keepdim=True), image, HALF_SUMS)) == 0.5
    assert float(simulate(lambda x: x.mean((2, 3), keepdim=True), image, ROUNDED)) == 1


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("ceil", [True, False])
def test_average_pools_keep_their_borders(include: bool, ceil: bool) -> None:
    image = torch.rand(1, 3, 13, 17)
    pool = nn.AvgPool2d((3, 4), stride=(2, 3), padding=(1, 2), count_include_pad=include, ceil_mode=ceil)

    # 12 numbers of 0..1: each of eleven additions rounds by at most 2^-8 / 2, and the sum is divided by 12
    torch.testing.assert_close(simulate(pool, image, HALF_SUMS), pool(image), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(6, 4, 3, stride=2, padding=1),
        nn.Conv2d(6, 6, (3, 5), padding=(2, 1), dilation=2, groups=6, bias=False),
        nn.Conv2d(6, 8, 2, groups=2),
        nn.Conv2d(6, 3, 3, padding="same"),
    ],
    ids=["strided", "depthwise", "grouped", "same"],
)
def test_convolutions_in_half_registers_are_the_same_convolutions(convolution: nn.Module) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 6, 11, 14)

    # 54 products of at most 3 x 0.4; measured 1.0e-3
    torch.testing.assert_close(simulate(convolution, image, ALL_HALF), convolution(image), rtol=0, atol=4e-3)


def test_long_convolution_loses_more_in_half_registers() -> None:
    torch.manual_seed(0)
    image, convolution = torch.rand(1, 512, 4, 4), nn.Conv2d(512, 8, 3)
    convolution.weight.data.abs_()
    exact = convolution(image)

    errors = [(simulate(convolution, image, arithmetic) - exact).abs().max() for arithmetic in (ROUNDED, ALL_HALF)]

    assert errors[1] > 4 * errors[0]


# --- MODNet at its full size -------------------------------------------------------------------------


def _photograph(shared: Path) -> torch.Tensor:
    pictures = list_pictures(shared / "data" / "dev" / "eval_natural" / "p3m" / "image")
    return torch.from_numpy(to_input(load_picture(pictures[0]), MODNET.image, (512, 512)))


def _initialised() -> nn.Module:
    torch.manual_seed(0)
    return MODNET.build()


def _golden(shared: Path) -> nn.Module:
    with safe_open(shared / "networks" / "modnet.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("state/")]  # noqa: SIM118 (no mapping)
        state = {name.removeprefix("state/"): file.get_tensor(name) for name in names}
    copies = {f"lr_branch.{name}": value for name, value in state.items() if name.startswith("backbone.")}
    network = MODNET.build()
    network.load_state_dict({**state, **copies})
    return network


def _graphs(network: nn.Module, image: torch.Tensor) -> tuple[fx.GraphModule, fx.GraphModule]:
    """MODNet with its instance norms as they are, and as tflite-gpu has it."""
    captured = capture(AlphaNetwork(network, MODNET.head).eval(), {"image": image})
    plain, _ = apply_rewrites(captured, find_target("onnx").rewrites, [])
    ours, _ = apply_rewrites(captured, find_target("tflite-gpu").rewrites, [])
    return plain, ours


def _correlation(left: torch.Tensor, right: torch.Tensor) -> float:
    if not bool(left.isfinite().all()):
        return float("nan")
    return float(np.corrcoef(left.double().flatten().numpy(), right.double().flatten().numpy())[0, 1])


def test_modnet_at_512_survives_half_precision_where_the_plain_norm_does_not(shared: Path) -> None:
    image = _photograph(shared)
    plain, ours = _graphs(_initialised(), image)
    with torch.no_grad():
        exact = copy.deepcopy(plain).double()(image.double())

    # sums over the map in half registers: the plain norm is NaN, ours measured 0.99983
    assert not _correlation(simulate_fp16(plain, [image], HALF_SUMS), exact) >= 0.9995
    assert _correlation(simulate_fp16(ours, [image], HALF_SUMS), exact) >= 0.9995
    # only stored numbers rounded: 0.99973 and 0.99999
    assert _correlation(simulate_fp16(plain, [image], ROUNDED), exact) < 0.9998
    assert _correlation(simulate_fp16(ours, [image], ROUNDED), exact) >= 0.9999


def test_modnet_with_noisy_weights_loses_to_rounding_alone_and_nothing_to_our_norm(shared: Path) -> None:
    """The golden weights amplify noise at every layer: 1e-3 after the first, 8e-2 after the encoder."""
    image = _photograph(shared)
    plain, ours = _graphs(_golden(shared), image)
    with torch.no_grad():
        exact = plain(image)

    floor = _correlation(simulate_fp16(plain, [image], ROUNDED), exact)  # 0.98235, sums in float32
    assert not _correlation(simulate_fp16(plain, [image], HALF_SUMS), exact) >= 0  # NaN
    assert _correlation(simulate_fp16(ours, [image], HALF_SUMS), exact) > floor - 0.001  # 0.98239


def test_inputs_and_graph_stay_as_they_are() -> None:
    image = torch.randn(1, 3, 8, 8)
    graph = capture(Function(lambda x: F.relu(x) * 1e-6), {"image": image})
    code, before = graph.code, image.clone()

    simulate_fp16(graph, [image], ALL_HALF)

    assert graph.code == code
    assert torch.equal(image, before)
