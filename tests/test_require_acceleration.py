"""A file for the GPU of which an operation would leave it is refused, with the reason and the ways out."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.cli.main import run
from mobile_matting_export.errors import ConversionError
from mobile_matting_export.require_acceleration import require_gpu

# replicate padding by one pixel becomes a MIRROR_PAD that repeats the border, which no GPU delegate computes
NETWORK = """
import torch
from torch import nn


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, 1, 1)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        x = self.conv(x)
        return torch.sigmoid(self.head(torch.flip(x, [3]) * x))


def build():
    return Masked()
"""


def test_a_peers_file_is_refused_with_module_reason_and_remedy(shared: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        require_gpu(shared / "peers" / "mmnet" / "litert-torch.fp32.tflite")
    said = str(caught.value)
    assert "TFLite GPU delegate takes 184 of 200 operations" in said
    assert "First RESHAPE 112, from m.d0" in said
    assert "OP is supported, but tensor type/shape isn't compatible." in said
    assert "4 axes or fewer" in said and "--allow-fallback" in said


def test_a_peers_file_that_is_taken_whole_passes(shared: Path) -> None:
    require_gpu(shared / "peers" / "segmatting" / "litert-torch.fp16.tflite")


@pytest.mark.toolchain
def test_convert_exits_3_and_makes_it_when_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    line = ["convert", f"{tmp_path / 'net.py'}:build", "--size", "16x16", "--head", "alpha", "-q", "--cache", "off"]
    line += ["-o", str(tmp_path / "build")]
    made = tmp_path / "build" / "net_build"
    assert run([*line, "-t", "tflite-gpu"]) == 3
    said = capsys.readouterr().err
    assert "REVERSE_V2" in said and "Operation is not supported" in said and "--allow-fallback" in said
    assert not (made / "tflite-gpu-fp16").exists()
    assert run([*line, "-t", "tflite-gpu", "--allow-fallback"]) == 0
    assert (made / "tflite-gpu-fp16" / "manifest.json").is_file()
    assert run(["inspect", str(made / "tflite-gpu-fp16")]) == 0
    shown = capsys.readouterr().out
    assert "TFLite GPU delegate takes 7 of 8 operations" in shown and "reverse channels through" in shown
