"""A file that misses its limits in the accelerator's fp16 mode is verified in its float32 mode instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.errors import QualityError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.network import LoadedNetwork, load_network
from mobile_matting_export.targets import Target, find_target


class OffBy:
    """A session that computes with PyTorch and moves every alpha towards the middle."""

    def __init__(self, network: LoadedNetwork, mode: str, error: float) -> None:
        self.device = f"stub in mode {mode}"
        self.network, self.error = network, error

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            alpha = self.network.module(*(torch.from_numpy(value) for value in inputs.values())).numpy()
        return {"alpha": np.where(alpha > 0.5, alpha - np.float32(self.error), alpha + np.float32(self.error))}

    def close(self) -> None:
        pass


@pytest.fixture
def target_with_errors() -> Callable[..., Target]:
    """Error of each accelerator mode -> a ncnn-vulkan row whose runtime errs so."""

    def make(network: LoadedNetwork, errors: dict[str, float]) -> Target:
        def emit(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
            files = (folder / f"{stem}.ncnn.param", folder / f"{stem}.ncnn.bin")
            for file in files:
                file.write_bytes(b"model")
            return files

        row = find_target("ncnn-vulkan")
        stub = replace(
            row.format,
            emit=emit,
            open=lambda files, mode: OffBy(network, mode, errors[mode]),
            count_ops=lambda files: {"Stub": 1},
        )
        return replace(row, format=stub)

    return make


@pytest.mark.parametrize(
    ("precision", "errors", "mode"),
    [
        ("fp16", {"gpu": 1e-3, "gpu-fp32": 0.0}, "gpu"),
        ("fp16", {"gpu": 0.5, "gpu-fp32": 1e-3}, "gpu-fp32"),
        ("fp32", {"gpu": 0.0, "gpu-fp32": 5e-5}, "gpu-fp32"),
    ],
)
def test_first_mode_within_the_limits_is_taken_and_recorded(
    target_with_errors: Callable[..., Target], tmp_path: Path, precision: str, errors: dict[str, float], mode: str
) -> None:
    network = load_network("ldn_fb")
    said: list[str] = []

    (artifact,) = convert_network(
        network, Job((target_with_errors(network, errors),), tmp_path, precision=precision), said.append
    )

    assert artifact.manifest["mode"] == mode
    assert artifact.manifest["parity"]["device"] == f"stub in mode {mode}"
    assert artifact.manifest["parity"]["max_abs"] == pytest.approx(errors[mode], rel=1e-3)
    assert any("miss the limits" in line for line in said) == (precision == "fp16" and mode == "gpu-fp32")


def test_no_mode_within_the_limits_leaves_nothing(target_with_errors: Callable[..., Target], tmp_path: Path) -> None:
    network = load_network("ldn_fb")
    target = target_with_errors(network, {"gpu": 0.5, "gpu-fp32": 0.4})

    with pytest.raises(QualityError, match=r"max error 0\.4 .*lowering to ncnn"):
        convert_network(network, Job((target,), tmp_path))

    assert not list(tmp_path.iterdir())


def test_pytorch_computes_on_one_thread_while_converting(
    target_with_errors: Callable[..., Target], tmp_path: Path
) -> None:
    network = load_network("ldn_fb")
    target = target_with_errors(network, {"gpu": 0.0, "gpu-fp32": 0.0})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: list[int] = []
    try:
        convert_network(network, Job((target,), tmp_path), lambda message: seen.append(torch.get_num_threads()))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_alpha_out_of_its_range_leaves_no_older_artifact_either(
    target_with_errors: Callable[..., Target], tmp_path: Path
) -> None:
    network = load_network("ldn_fb")
    good, bad = (target_with_errors(network, {"gpu": error, "gpu-fp32": error}) for error in (0.0, -0.5))
    convert_network(network, Job((good,), tmp_path))

    with pytest.raises(QualityError, match=r"beyond \[0, 1\]"):
        convert_network(network, Job((bad,), tmp_path))

    assert not list((tmp_path / "ldn_fb").iterdir())


def test_a_wrong_capture_is_not_blamed_on_a_rewrite(
    target_with_errors: Callable[..., Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_network("ldn_fb")
    target = target_with_errors(network, {"gpu": 0.5, "gpu-fp32": 0.5})

    def capture_another(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.fx.GraphModule:
        return capture(Inverted(module), inputs)

    monkeypatch.setattr("mobile_matting_export.prepare_network.capture", capture_another)
    with pytest.raises(QualityError, match="First broken by the capture"):
        convert_network(network, Job((target,), tmp_path))


class Inverted(torch.nn.Module):
    """Background where a network has foreground."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 1 - self.net(image)
