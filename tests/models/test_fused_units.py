"""The fused training steps compute what plain PyTorch does; the reference is the plain module in float64."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from mobile_matting_export.networks.mmnet import EncoderBlock, MMNet, Unit
from models.training.fused_units import TOOLS, fuse_units

MISSING = [program for program in TOOLS if shutil.which(program) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the kernels are compiled: needs {' and '.join(MISSING)}")

# relative to the largest value of each tensor; measured: units 2e-6, blocks (three or four units deep) 8e-6, networks
# (forty deep) 4e-5
TOLERANCE = 5e-6
BLOCK_TOLERANCE = 2e-5
NETWORK_TOLERANCE = 1e-4
# rounding must not move a value over a kink of ReLU6, where the gradient jumps
MARGIN = 1e-5

UNITS: dict[str, Callable[[], Unit]] = {
    "pointwise": lambda: Unit(16, 32),
    "pointwise_linear": lambda: Unit(16, 32, active=False),
    "pointwise_channels_8_mod_16": lambda: Unit(40, 24),
    "depthwise": lambda: Unit(32, 32, 3, groups=32),
    "depthwise_linear": lambda: Unit(16, 16, 3, groups=16, active=False),
    "depthwise_dilation_2": lambda: Unit(16, 16, 3, groups=16, dilation=2),
    "depthwise_dilation_8": lambda: Unit(16, 16, 3, groups=16, dilation=8),
    "depthwise_8_channels": lambda: Unit(8, 8, 3, groups=8),
    "depthwise_24_channels_dilation_4": lambda: Unit(24, 24, 3, groups=24, dilation=4),
    "depthwise_stride_2": lambda: Unit(32, 32, 3, groups=32, stride=2),
    "depthwise_40_channels_stride_2": lambda: Unit(40, 40, 3, groups=40, stride=2),
    "dense_stride_2": lambda: Unit(3, 32, 3, stride=2),
}
BLOCKS: dict[str, Callable[[], EncoderBlock]] = {
    "block": lambda: EncoderBlock(16, 16, 24, (1, 2, 4, 8)),
    "block_channels_8_mod_16": lambda: EncoderBlock(24, 24, 40, (1, 2, 4)),
    "block_of_8_channels": lambda: EncoderBlock(8, 8, 8, (1, 2, 4, 8)),
    "block_active": lambda: EncoderBlock(40, 40, 40, (1, 2), active=True),
    "block_stride_2": lambda: EncoderBlock(16, 16, 24, (1, 2, 4, 8), stride=2),
    "block_stride_2_channels_8_mod_16": lambda: EncoderBlock(24, 40, 40, (1, 2), stride=2),
}
# one picture; odd sides (an odd number of pictures with it); more positions than a kernel handles at once
STRIDE_1_SHAPES = ((1, 12, 16), (3, 7, 9), (5, 26, 18))
STRIDE_2_SHAPES = ((1, 12, 16), (3, 8, 10), (5, 44, 40))


def drawn(build: Callable[[], nn.Module]) -> nn.Module:
    """A module with random affine parameters and statistics: fresh ones are 0 and 1 and would hide a mistake."""
    torch.manual_seed(0)
    module = build().train()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            # wide enough that both kinks of ReLU6 are in use
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.uniform_(part.bias, -1.0, 2.0)
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    return module


def input_clear_of_kinks(exact: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """The first random input, float32, with which no value of the float64 module is near a kink of ReLU6."""
    exact, seen = copy.deepcopy(exact), []
    for part in exact.modules():
        if isinstance(part, nn.ReLU6):
            part.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for seed in range(100):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        seen.clear()
        with torch.no_grad():
            exact(x.double())
        if all(torch.minimum(v.abs(), (v - 6).abs()).min() > MARGIN for v in seen):
            return x
    raise AssertionError("each of 100 inputs comes too near a kink: choose a smaller shape")


def training_step(module: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Result, gradients and running statistics after one step on a fixed random objective."""
    x = x.clone().requires_grad_()
    result = module(x)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    (result * weights.to(x.dtype)).sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in module.named_parameters()}
    return {"result": result.detach(), "gradient of the input": x.grad, **gradients, **dict(module.named_buffers())}


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = TOLERANCE) -> None:
    assert got.keys() == expected.keys()
    errors = {}
    for name, truth in expected.items():
        assert got[name].shape == truth.shape, name
        errors[name] = float((got[name].double() - truth.double()).abs().max() / truth.abs().max())
    assert {name: error for name, error in errors.items() if not error <= tolerance} == {}


def compare_with_plain(
    build: Callable[[], nn.Module], channels: int, shape: tuple[int, int, int], tolerance: float = TOLERANCE
) -> None:
    plain = drawn(build)
    fused, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    fuse_units(fused)
    x = input_clear_of_kinks(exact, (shape[0], channels, *shape[1:]))
    assert_same(training_step(fused, x), training_step(exact, x.double()), tolerance)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", range(3), ids=["one_picture", "three_small", "five_large"])
@pytest.mark.parametrize("name", UNITS)
def test_a_unit_equals_the_plain_one(name: str, case: int) -> None:
    conv = UNITS[name]().conv
    shapes = STRIDE_1_SHAPES if conv.stride[0] == 1 else STRIDE_2_SHAPES
    compare_with_plain(UNITS[name], conv.in_channels, shapes[case])


@pytest.mark.parametrize("shape", [(1, 12, 16), (3, 8, 10)], ids=["one_picture", "three_pictures"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_equals_the_plain_one(name: str, shape: tuple[int, int, int]) -> None:
    channels = BLOCKS[name]().get_submodule("branch0.pointwise_conv.conv").in_channels
    compare_with_plain(BLOCKS[name], channels, shape, BLOCK_TOLERANCE)


@pytest.mark.parametrize("name", ["pointwise_linear", "depthwise_linear"])
def test_two_threads_compute_the_same(name: str, two_threads: None) -> None:
    compare_with_plain(UNITS[name], 16, (5, 26, 18))


def test_means_of_six_deviations_cost_one_digit() -> None:
    # the statistics are plain sums of squares: the error grows with (mean / deviation)^2, which trained networks of
    # this kind keep below 6^2
    plain = drawn(UNITS["pointwise_linear"])
    fused, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    fuse_units(fused)
    x = 3 + torch.randn(3, 16, 28, 30, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        deviation, mean = torch.std_mean(plain.conv(x), (0, 2, 3))
    assert 5 < (mean / deviation).abs().max() < 7
    assert_same(training_step(fused, x), training_step(exact, x.double()), 10 * TOLERANCE)


def test_the_first_layer_learns_from_pictures_without_a_gradient() -> None:
    plain = drawn(UNITS["dense_stride_2"])
    fused, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    fuse_units(fused)
    x = input_clear_of_kinks(exact, (3, 3, 16, 20))
    for module, picture in ((fused, x), (exact, x.double())):
        module(picture).square().mean().backward()
    expected = {name: p.grad for name, p in exact.named_parameters()}
    assert_same({name: p.grad for name, p in fused.named_parameters()}, expected)


def fused_and_plain(width: float) -> tuple[MMNet, MMNet]:
    plain = drawn(lambda: MMNet(width))
    fused = copy.deepcopy(plain)
    fuse_units(fused)
    return fused, plain


@pytest.mark.parametrize("width", [0.5, 0.75, 1.0])
def test_a_whole_network_equals_the_plain_one_forwards(width: float) -> None:
    # forwards only: among so many values some lie at a kink, where gradients jump but results do not
    fused, plain = fused_and_plain(width)
    exact = copy.deepcopy(plain).double()
    x = torch.rand(3, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got, expected = fused(x), exact(x.double())
    results = {"logits": got[0], "auxiliary": got[1], **dict(fused.named_buffers())}
    truths = {"logits": expected[0], "auxiliary": expected[1], **dict(exact.named_buffers())}
    assert_same(results, truths, NETWORK_TOLERANCE)


def test_eval_mode_is_the_plain_network() -> None:
    fused, plain = fused_and_plain(0.5)
    x = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(fused.eval()(x), plain.eval()(x))


def test_a_copy_of_a_fused_network_trains_its_own_weights() -> None:
    fused, _ = fused_and_plain(0.5)
    twin = copy.deepcopy(fused)
    bound = [module for module in twin.modules() if "forward" in vars(module)]
    assert len(bound) == sum(isinstance(module, (Unit, EncoderBlock)) for module in fused.modules())
    assert all(module.forward.args[0] is module for module in bound)
    twin(torch.rand(2, 3, 32, 32))[0].sum().backward()
    assert all(p.grad is None for p in fused.parameters())
    assert twin.init_block["conv"].conv.weight.grad is not None


def test_fusing_keeps_the_names_and_tensors_of_the_state() -> None:
    fused, plain = fused_and_plain(0.5)
    assert list(fused.state_dict()) == list(plain.state_dict())
    for mine, theirs in zip(fused.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
