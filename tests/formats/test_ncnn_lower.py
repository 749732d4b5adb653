from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mobile_matting_export.artifact import written_atomically
from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import SMALL_WEIGHT, ExportGraph
from mobile_matting_export.formats.ncnn import NCNN, converter, lower
from mobile_matting_export.formats.ncnn.param import FEATURE_MASK, Layer, ParamFile, read
from mobile_matting_export.graph.capture import capture

SIZE = (24, 40)


class Small(nn.Module):
    """Convolution, the operator under test on 4 channels, convolution, sigmoid."""

    def __init__(self, middle: Callable[..., torch.Tensor], *, channels: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = middle
        self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, image: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.last(self.middle(self.first(image), *more)))


class Wide(Small):
    """The same with a convolution whose weights are enough to be halved."""

    def __init__(self, middle: Callable[..., torch.Tensor]) -> None:
        super().__init__(middle, channels=32)
        self.widen = nn.Conv2d(4, 32, 3, padding=1)
        assert self.widen.weight.numel() > SMALL_WEIGHT

    def forward(self, image: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.last(self.widen(self.middle(self.first(image), *more))))


def graph_of(net: nn.Module, *names: str, channels: int = 3) -> ExportGraph:
    torch.manual_seed(1)
    inputs = {name: torch.rand(1, channels if index else 3, *SIZE) for index, name in enumerate(names or ("image",))}
    return ExportGraph(capture(net.eval(), inputs), inputs)


def settled_batch_norm() -> nn.BatchNorm2d:
    torch.manual_seed(2)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    return norm


def box_variance(x: torch.Tensor, *, count_include_pad: bool) -> torch.Tensor:
    def mean(y: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(y, 3, 1, 1, count_include_pad=count_include_pad)

    return mean(x * x) - mean(x) ** 2


def up_and_down(x: torch.Tensor, *, align_corners: bool) -> torch.Tensor:
    y = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=align_corners)
    return F.interpolate(y, size=SIZE, mode="bilinear", align_corners=align_corners)


MIDDLES = {
    "batch_norm": nn.Sequential(settled_batch_norm(), nn.ReLU()),
    "half_pixel_resize": lambda x: up_and_down(x, align_corners=False),
    "aligned_corners_resize": lambda x: up_and_down(x, align_corners=True),
    "prelu": nn.PReLU(4, init=0.3),
    "instance_norm": nn.InstanceNorm2d(4, affine=True),
    "box_filter_with_padding": lambda x: box_variance(x, count_include_pad=True),
    "box_filter_without_padding": lambda x: box_variance(x, count_include_pad=False),
    "global_pool": lambda x: x * F.adaptive_avg_pool2d(x, 1),
    "softmax": lambda x: torch.softmax(x, 1),
    "clamp": lambda x: torch.clamp(x, 0, 0.5),
}


def emitted(graph: ExportGraph, precision: str, folder: Path) -> tuple[Path, ...]:
    return NCNN.emit(graph, precision, folder, f"net_{precision}")


def error_of(graph: ExportGraph, files: tuple[Path, ...]) -> float:
    """Largest difference to PyTorch over the whole map, borders included."""
    session = NCNN.open(files, "cpu")
    result = session.run({name: example.numpy() for name, example in graph.inputs.items()})
    session.close()
    with torch.no_grad():
        expected = graph.module(*graph.inputs.values()).numpy()
    assert result["alpha"].shape == expected.shape == (1, 1, *SIZE)
    assert expected.std() > 1e-3, "a constant alpha would agree with anything"
    return float(np.abs(result["alpha"] - expected).max())


@pytest.mark.toolchain
@pytest.mark.parametrize("name", MIDDLES)
def test_fp32_file_agrees_with_pytorch(name: str, tmp_path: Path) -> None:
    graph = graph_of(Small(MIDDLES[name]))
    assert error_of(graph, emitted(graph, "fp32", tmp_path)) < 1e-5


@pytest.mark.toolchain
@pytest.mark.parametrize("name", ["batch_norm", "box_filter_with_padding", "clamp"])
def test_fp16_file_is_smaller_and_off_by_weight_rounding_only(name: str, tmp_path: Path) -> None:
    graph = graph_of(Wide(MIDDLES[name]))
    full, half = emitted(graph, "fp32", tmp_path), emitted(graph, "fp16", tmp_path)
    assert half[1].stat().st_size < full[1].stat().st_size
    # fp16 keeps 11 bits: a weight moves by 2**-12 of itself at most, and sigmoid's slope is 1/4
    assert error_of(graph, half) < 2**-12


@pytest.mark.toolchain
def test_batch_norm_is_folded_and_sizes_and_names_are_in_the_file(tmp_path: Path) -> None:
    param, _ = emitted(graph_of(Small(MIDDLES["batch_norm"])), "fp32", tmp_path)
    network = read(param)
    assert [layer.type for layer in network.layers] == ["Input", "Convolution", "Convolution"]
    assert network.outputs == ("alpha",)
    image = network.inputs[0]
    assert image.outputs == ("image",)
    assert [image.setting(key) for key in (0, 1, 2)] == [40, 24, 3]


@pytest.mark.toolchain
def test_fp16_file_computes_box_filters_in_fp32_and_loads(tmp_path: Path) -> None:
    graph = graph_of(Small(MIDDLES["box_filter_with_padding"]))

    def masked(precision: str) -> set[str]:
        layers = read(emitted(graph, precision, tmp_path)[0]).layers
        return {layer.type for layer in layers if layer.setting(FEATURE_MASK)}

    assert masked("fp16") == {"Pooling", "BinaryOp", "UnaryOp"}
    assert masked("fp32") == set()


class TwoImages(nn.Module):
    """Reads its second input first, so that a converter that numbers by use would swap them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.now, self.before = nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.before(previous) - 2 * self.now(image))


@pytest.mark.toolchain
def test_two_inputs_keep_their_names(tmp_path: Path) -> None:
    graph = graph_of(TwoImages(), "image", "previous")
    files = emitted(graph, "fp32", tmp_path)
    assert [layer.outputs[0] for layer in read(files[0]).inputs] == ["image", "previous"]
    assert error_of(graph, files) < 1e-5


@pytest.mark.toolchain
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_same_graph_gives_the_same_bytes(precision: str, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files = emitted(graph_of(Small(MIDDLES["box_filter_with_padding"])), precision, tmp_path / name)
        assert sorted((tmp_path / name).iterdir()) == sorted(files), "nothing else is left in the folder"
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert digests[0] == digests[1]


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("middle", "operator", "remedy"),
    [
        (lambda x: x.argmax(1, keepdim=True) * x, "torch.argmax", "probability of the foreground"),
        (lambda x: x.var((2, 3), keepdim=True) * x, "torch.var", "mean"),
        (lambda x: torch.where(x > 0, x, 2 * x), "torch.gt", "relu"),
        (lambda x: F.interpolate(x, size=SIZE, mode="bilinear", antialias=True), "_aa", "without antialias"),
        (lambda x: x[:, :, ::2], "slice with step 2", "differently"),
    ],
)
def test_operator_that_ncnn_lacks_is_named_with_a_remedy(
    middle: Callable[..., torch.Tensor], operator: str, remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=operator) as caught:
        emitted(graph_of(Small(middle)), "fp32", tmp_path)
    assert remedy in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), "ceil_mode=True and count_include_pad=True"),
        (lambda x: F.avg_pool2d(x, 3, divisor_override=4), "divisor_override"),
        (nn.LayerNorm((4, *SIZE)), "GroupNorm"),
    ],
)
def test_operator_that_converts_silently_wrong_is_refused(
    middle: Callable[..., torch.Tensor], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=reason):
        emitted(graph_of(Small(middle)), "fp32", tmp_path)


class Fragment(nn.Module):
    """Nothing in it tells pnnx which axis is the batch."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(image, 1) * image[:, :1]


class IgnoresFirst(Small):
    def forward(self, image: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        return super().forward(more[0])


def test_fragment_without_batch_axis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="whole network"):
        emitted(graph_of(Fragment()), "fp32", tmp_path)


def test_unused_input_is_refused_because_pnnx_swaps_the_others(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="'image' is not used"):
        emitted(graph_of(IgnoresFirst(nn.ReLU()), "image", "previous"), "fp32", tmp_path)


def test_precision_that_is_not_offered_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp32 or fp16"):
        emitted(graph_of(Small(nn.ReLU())), "int8", tmp_path)


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Put a shell script in the place of pnnx; its arguments are those of the real one."""
    program = tmp_path / "pnnx"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(converter, "executable", lambda: program)


def writes(layer: str) -> str:
    """A script that writes a network of an input and one layer, as pnnx would."""
    lines = ["7767517", "2 2", "Input in0 0 1 in0", layer]
    words = " ".join(repr(line) for line in lines)
    return f"printf '%s\\n' {words} > network.ncnn.param; : > network.ncnn.bin"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo out of luck >&2; exit 3", "exit status 3: out of luck"),
        ("kill -SEGV $$", "exit status -11"),
        ("echo done; exit 0", "wrote no model: done"),
        ("echo unsupported avgpool2d divisor_override", "'unsupported avgpool2d divisor_override'"),
        ("echo garbage > network.ncnn.param; : > network.ncnn.bin", "no ncnn network: line 1"),
        (writes("torch.argmax a 1 1 in0 out0"), "no operator for torch.argmax"),
        (writes("ReLU a 1 1 in0 first"), "the outputs .'first'."),
        (writes("NoSuchLayer a 1 1 in0 out0"), "ncnn does not load what pnnx wrote"),
    ],
)
def test_converter_that_fails_is_told_from_one_that_worked(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, script)
    with pytest.raises(ConversionError, match=reason):
        emitted(graph_of(Small(nn.ReLU())), "fp32", tmp_path)


def test_full_disk_that_the_converter_overlooks_is_explained(
    tiny_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, "cat /dev/zero > network.ncnn.param 2> /dev/null; : > network.ncnn.bin; exit 0")
    with (
        pytest.raises(UsageError, match=r"No space left on device while making .*mine: .* its disk has 1\.0 MB left"),
        written_atomically(tiny_disk / "mine") as scratch,
    ):
        emitted(graph_of(Small(nn.ReLU())), "fp32", scratch)
    assert list(tiny_disk.iterdir()) == []


def test_full_disk_before_the_converter_is_explained(tiny_disk: Path) -> None:
    large = nn.Conv2d(4, 4, 151, padding=75)
    with (
        pytest.raises(UsageError, match=r"No space left on device while making .*mine"),
        written_atomically(tiny_disk / "mine") as scratch,
    ):
        emitted(graph_of(Small(large)), "fp32", scratch)
    assert list(tiny_disk.iterdir()) == []


def test_converter_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, "exec sleep 60")
    with pytest.raises(ConversionError, match=r"stopped after 0\.2 s"):
        converter.convert(tmp_path / "network.pt", [(1, 3, *SIZE)], timeout_s=0.2)


def test_converter_that_cannot_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converter, "executable", lambda: tmp_path / "absent")
    with pytest.raises(ConversionError, match="could not be started"):
        converter.convert(tmp_path / "network.pt", [(1, 3, *SIZE)])


def test_old_output_is_not_taken_for_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "network.ncnn.param").write_text("old")
    (tmp_path / "network.ncnn.bin").write_text("old")
    pretend(monkeypatch, tmp_path, "exit 0")
    with pytest.raises(ConversionError, match="wrote no model"):
        converter.convert(tmp_path / "network.pt", [(1, 3, *SIZE)])


def test_box_filter_mask_sees_through_splits() -> None:
    layers = (
        Layer("Input", "x", (), ("x",)),
        Layer("BinaryOp", "square", ("x",), ("1",)),
        Layer("Split", "split", ("1",), ("2", "3")),
        Layer("Pooling", "box", ("2",), ("4",), {0: "1", 1: "3"}),
        Layer("Convolution", "conv", ("3",), ("5",)),
        Layer("BinaryOp", "difference", ("4", "5"), ("alpha",)),
    )
    network = lower.keep_box_filters_exact(ParamFile(layers))
    assert [layer.name for layer in network.layers if layer.setting(FEATURE_MASK)] == [
        "square",
        "box",
        "difference",
    ]


def test_importing_the_format_loads_no_converter_and_no_runtime() -> None:
    code = "import sys, mobile_matting_export.formats.ncnn; sys.exit(bool({'ncnn', 'pnnx', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
