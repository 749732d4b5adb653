"""Half weights in the ``.bin``: where pnnx halves, the same bits; small ones float32; nothing unaccounted for."""

from __future__ import annotations

import struct
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mobile_matting_export import load_network
from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import SMALL_WEIGHT, ExportGraph
from mobile_matting_export.formats.ncnn import NCNN, converter
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile, read
from mobile_matting_export.formats.ncnn.quantize import round_weights_to_half
from mobile_matting_export.formats.ncnn.walk_weights import FLOAT16_TAG, FLOAT32_TAG, weight_blocks
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.networks import ALL

SIZE = (16, 24)


class Behind(nn.Module):
    """The module under test behind a convolution, which tells pnnx where the batch is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.module = module

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.module(self.first(image))


class Constant(nn.Module):
    """A parameter and what is done with it."""

    def __init__(self, shape: tuple[int, ...], use: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.use = use

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.use(x, self.weight)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(8, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.memory(x.mean(2).transpose(1, 2))[0]


class Normalized(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(x, dim=1)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "Convolution": lambda: nn.Conv2d(8, 5, 3, bias=False),
    "ConvolutionDepthWise": lambda: nn.Conv2d(8, 8, 3, groups=8),
    "Convolution1D": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(8, 6, 3, padding=1)),
    "Deconvolution": lambda: nn.ConvTranspose2d(8, 5, 3, stride=2),
    "DeconvolutionDepthWise": lambda: nn.ConvTranspose2d(8, 8, 4, stride=2, groups=8, bias=False),
    "InnerProduct": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7)),
    "Gemm": lambda: nn.Linear(24, 7),
    "MultiHeadAttention": Attention,
    "MemoryData": lambda: Constant((1, 8, *SIZE), torch.add),
    "PReLU": lambda: nn.PReLU(8),
    "BatchNorm": lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1)),
    "InstanceNorm": lambda: nn.InstanceNorm2d(8, affine=True),
    "GroupNorm": lambda: nn.GroupNorm(2, 8),
    "LayerNorm": lambda: nn.LayerNorm(24),
    "Normalize": Normalized,
}


def written_by_pnnx(module: nn.Module, image: torch.Tensor, folder: Path) -> tuple[ParamFile, bytes, bytes]:
    """The network, its float32 weights and pnnx's own float16 weights."""
    traced = folder / "network.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; nn.LSTM checks sizes in Python
        torch.jit.save(torch.jit.trace(module.eval(), image, check_trace=False), traced)
    param, weights = converter.convert(traced, [image.shape])
    network, full = read(param), weights.read_bytes()
    shape = ",".join(map(str, image.shape))
    command = [str(converter.executable()), str(traced), f"inputshape=[{shape}]f32", "fp16=1"]
    subprocess.run([*command, f"ncnnparam={param}", f"ncnnbin={weights}"], cwd=folder, capture_output=True, check=True)
    assert read(param) == network
    return network, full, weights.read_bytes()


def compare_with_pnnx(network: ParamFile, full: bytes, pnnx: bytes) -> tuple[int, int]:
    """Number of tagged weights, and of those that differ; fails where the known difference is no reason."""
    ours = round_weights_to_half(network, full, largest_float=0)
    assert len(ours) == len(pnnx)
    count = differing = source = target = 0
    for block in (block for layer in network.layers for block in weight_blocks(layer)):
        source, target = source + 4 * block.tagged, target + 4 * block.tagged
        assert ours[target - 4 : target] == pnnx[target - 4 : target]  # the tag, or the end of the block before
        if not block.tagged:
            size = 4 * block.count
            assert ours[target : target + size] == pnnx[target : target + size] == full[source : source + size]
        else:
            size = (2 * block.count + 3) // 4 * 4
            bits = np.frombuffer(full, "<u4", block.count, source)
            # pnnx rounds ties away from zero, and knows no subnormal halves
            excused = (bits & 0x1FFF == 0x1000) | (np.abs(bits.view("<f4")) < 2**-14)
            a, b = (np.frombuffer(half, "<u2", size // 2, target) for half in (ours, pnnx))
            different = a != b
            assert not different[block.count :].any(), "padding"
            assert not (different[: block.count] & ~excused).any()
            count, differing = count + block.count, differing + int(different.sum())
        source, target = source + 4 * block.count, target + size
    assert (source, target) == (len(full), len(pnnx))
    return count, differing


@pytest.mark.toolchain
@pytest.mark.parametrize("type_", MODULES)
def test_every_layer_type_with_weights_is_halved_as_pnnx_does(type_: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Behind(MODULES[type_]())
    network, full, pnnx = written_by_pnnx(module, torch.rand(1, 3, *SIZE), tmp_path)
    assert type_ in {layer.type for layer in network.layers}
    assert round_weights_to_half(network, full, largest_float=0) == pnnx


@pytest.mark.toolchain
def test_odd_number_of_weights_is_padded_as_pnnx_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, full, pnnx = written_by_pnnx(nn.Conv2d(3, 3, 3), torch.rand(1, 3, *SIZE), tmp_path)
    assert network.layers[1].setting(6) == 81
    assert round_weights_to_half(network, full, largest_float=0) == pnnx


@pytest.mark.toolchain
def test_trained_network_is_halved_as_pnnx_does(tmp_path: Path) -> None:
    loaded = load_network("ldn_fb")
    (image,) = loaded.examples().values()
    count, differing = compare_with_pnnx(*written_by_pnnx(loaded.module, image, tmp_path))
    assert count > 25_000
    assert differing < count / 500


@pytest.mark.toolchain
def test_network_with_deconvolutions_is_halved_as_pnnx_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = next(spec for spec in ALL if spec.name == "portraitnet")
    count, differing = compare_with_pnnx(*written_by_pnnx(spec.build(), torch.rand(1, 3, 64, 64), tmp_path))
    assert count > 2_000_000
    assert differing < count / 500


@pytest.mark.toolchain
@pytest.mark.parametrize(("kernel", "dtype"), [(5, torch.float32), (19, torch.float16)])
def test_small_weight_is_loaded_bit_for_bit_and_large_one_rounded(
    kernel: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 1, kernel, padding=kernel // 2, bias=False)
    assert (net.weight.numel() > SMALL_WEIGHT) == (dtype == torch.float16)
    with torch.no_grad():
        net.weight[0, :, 0] *= 2**-13  # subnormal as halves
    example = {"image": torch.rand(1, 3, kernel, kernel)}
    session = NCNN.open(NCNN.emit(ExportGraph(capture(net.eval(), example), example), "fp16", tmp_path, "net"), "cpu")
    for channel in range(3):
        # the answer to a single 1 in the middle is the kernel, turned by 180 degrees
        impulse = np.zeros((1, 3, kernel, kernel), np.float32)
        impulse[0, channel, kernel // 2, kernel // 2] = 1
        answer = session.run({"image": impulse})["alpha"][0, 0, ::-1, ::-1]
        stored = net.weight[0, channel].detach().to(dtype).float().numpy()
        np.testing.assert_array_equal(answer, stored)
    session.close()


def network_of(*layers: Layer) -> ParamFile:
    return ParamFile((Layer("Input", "in0", (), ("in0",)), *layers))


def convolution(weights: int, outputs: int) -> Layer:
    return Layer("Convolution", "conv", ("in0",), ("out0",), {0: str(outputs), 5: "1", 6: str(weights)})


def tagged(values: np.ndarray, tag: int = FLOAT32_TAG) -> bytes:
    return struct.pack("<I", tag) + values.astype("<f4").tobytes()


@pytest.mark.parametrize(("count", "halved"), [(SMALL_WEIGHT, False), (SMALL_WEIGHT + 1, True)])
def test_only_more_than_the_limit_is_halved_and_the_bias_never(count: int, halved: bool) -> None:
    values = np.random.default_rng(0).normal(size=count).astype("<f4")
    bias = np.array([0.1, 0.2], "<f4").tobytes()
    full = tagged(values) + bias
    half = round_weights_to_half(network_of(convolution(count, 2)), full)
    if not halved:
        assert half == full
    else:
        assert half[:4] == struct.pack("<I", FLOAT16_TAG)
        np.testing.assert_array_equal(np.frombuffer(half, "<f2", count, 4), values.astype("<f2"))
        assert half.endswith(bias)
        assert len(half) == 4 + 2 * (count + 1) + len(bias)


def test_halfway_goes_to_even() -> None:
    values = np.array([1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11, 2**-25, 3 * 2**-25, 65504], "<f4")
    half = round_weights_to_half(network_of(convolution(6, 0)), tagged(values), largest_float=0)
    expected = [1, 1 + 2**-9, -1, 0, 2**-23, 65504]
    np.testing.assert_array_equal(np.frombuffer(half, "<f2", 6, 4).astype(float), expected)


@pytest.mark.parametrize("value", [65504.0 * 1.001, -70000.0, np.inf, np.nan])
def test_weight_that_no_half_holds_is_refused(value: float) -> None:
    values = np.zeros(SMALL_WEIGHT + 1)
    values[7] = value
    full = tagged(values) + np.zeros(1, "<f4").tobytes()
    with pytest.raises(ConversionError, match=r"layer 'conv' \(Convolution\) reaches .*65504; convert to fp32"):
        round_weights_to_half(network_of(convolution(len(values), 1)), full)


def test_cut_file_is_refused_wherever_it_is_cut() -> None:
    full = tagged(np.ones(9)) + np.ones(2, "<f4").tobytes()
    network = network_of(convolution(9, 2))
    assert round_weights_to_half(network, full) == full
    for length in range(len(full)):
        with pytest.raises(ConversionError, match=r"end in layer 'conv' \(Convolution\)"):
            round_weights_to_half(network, full[:length])


def test_weights_of_a_type_never_heard_of_are_refused_by_name() -> None:
    network = network_of(Layer("Invented", "new", ("in0",), ("x",)), convolution(9, 2))
    full = tagged(np.ones(9)) + np.ones(2, "<f4").tobytes()
    with pytest.raises(ConversionError, match=r"20 bytes .* Input, Invented; convert to fp32"):
        round_weights_to_half(network, tagged(np.zeros(4)) + full)


def test_weights_that_are_not_float32_are_refused() -> None:
    full = tagged(np.ones(9), FLOAT16_TAG) + np.ones(2, "<f4").tobytes()
    with pytest.raises(ConversionError, match=r"'conv' \(Convolution\) are not float32 \(tag 0x01306b47\)"):
        round_weights_to_half(network_of(convolution(9, 2)), full)


@pytest.mark.toolchain
def test_recurrent_layer_is_refused_by_name(tmp_path: Path) -> None:
    network, full, _ = written_by_pnnx(Behind(Recurrent()), torch.rand(1, 3, *SIZE), tmp_path)
    with pytest.raises(ConversionError, match=r"LSTM \(layer 'lstm_1'\)"):
        round_weights_to_half(network, full)


def test_dynamic_weights_are_not_in_the_file() -> None:
    dynamic = Layer("Convolution", "conv", ("in0", "w"), ("out0",), {0: "2", 5: "1", 6: "9", 19: "1"})
    assert round_weights_to_half(network_of(dynamic), b"") == b""
