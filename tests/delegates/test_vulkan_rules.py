"""Which ncnn layers keep their Vulkan form: the table, and ncnn's own answer where there is a Vulkan device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mobile_matting_export.delegates.judge_graph import judge_graph
from mobile_matting_export.formats.ncnn.read_graph import read_graph

INPUT = "Input in0 0 1 in0 0=8 1=8 2=4"

FAILS = {
    "vulkan_allowed": "ReLU r 1 1 in0 out0 31=17",
    "stored_weights": "Convolution c 1 1 in0 out0 0=4 1=1 6=16 19=1",
    "plain_int8_padding": "Convolution c 1 1 in0 out0 0=4 1=3 4=1 6=144 8=2 18=1.0",
    "plain_gemm": "Gemm g 1 1 in0 out0 18=4",
}
TAKEN = (
    "ReLU r 1 1 in0 out0 31=1",
    "Convolution c 1 1 in0 out0 0=4 1=1 6=16",
    "Convolution c 1 1 in0 out0 0=4 1=3 4=1 6=144 8=2",
    "Deconvolution d 1 1 in0 out0 0=4 1=2 6=64",
    "Gemm g 1 1 in0 out0",
    "InstanceNorm n 1 1 in0 out0 0=4 2=0",
)
ABSENT = ("Squeeze", "ExpandDims", "Tile", "GridSample", "MatMul", "CumulativeSum", "ArgMax", "Exp", "Log", "MVN")


def _write(folder: Path, line: str) -> Path:
    path = folder / "net.param"
    path.write_text(f"7767517\n2 2\n{INPUT}\n{line}\n")
    return path


@pytest.mark.parametrize("name", FAILS)
def test_a_condition_that_fails(tmp_path: Path, name: str) -> None:
    report = judge_graph(read_graph(_write(tmp_path, FAILS[name]), None, None), "vulkan")
    (verdict,) = report.verdicts
    assert report.outcome == "none"
    assert not verdict.taken and verdict.means and verdict.remedy
    assert verdict.reason == "", "ncnn moves a layer to the CPU without a word"


@pytest.mark.parametrize("line", TAKEN)
def test_what_is_taken(tmp_path: Path, line: str) -> None:
    assert judge_graph(read_graph(_write(tmp_path, line), None, None), "vulkan").outcome == "full"


@pytest.mark.parametrize("kind", ABSENT)
def test_a_layer_without_a_vulkan_form(tmp_path: Path, kind: str) -> None:
    (verdict,) = judge_graph(read_graph(_write(tmp_path, f"{kind} x 1 1 in0 out0"), None, None), "vulkan").verdicts
    assert not verdict.taken and kind in verdict.means and verdict.remedy


_ASK = """
import sys, ncnn
net = ncnn.Net()
net.opt.use_vulkan_compute = True
assert net.load_param(sys.argv[1]) == 0 and net.load_model(sys.argv[2]) == 0
print(ncnn.get_gpu_count())
for layer in net.layers():
    print(layer.type, int(layer.support_vulkan))
import os; sys.stdout.flush(); os._exit(0)
"""


def _peers() -> list[Path]:
    peers = Path(__file__).resolve().parents[3] / "shared" / "peers"
    chosen = ("mmnet/pnnx.int8.param", "segmatting/pnnx.fp16.param", "portraitnet_video/pnnx.fp16.param")
    return [peers / name for name in chosen if (peers / name).is_file()]  # a device starts in ten seconds


@pytest.mark.vulkan
@pytest.mark.parametrize("path", _peers(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_ncnn_itself_says_the_same_of_a_whole_network(path: Path) -> None:
    command = [sys.executable, "-c", _ASK, str(path), str(path.with_suffix(".bin"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    devices, *lines = done.stdout.splitlines()
    if devices == "0":
        pytest.skip("needs a Vulkan device")
    graph = read_graph(path, None, None)
    said = [line.rsplit(" ", 1) for line in lines]
    said = [(kind, supported == "1") for kind, supported in said if kind != "Input"]
    verdicts = judge_graph(graph, "vulkan").verdicts
    assert said == [(op.kind, verdict.taken) for op, verdict in zip(graph.ops, verdicts, strict=True)]
