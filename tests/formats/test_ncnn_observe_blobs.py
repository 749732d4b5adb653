"""Observed blobs hold what PyTorch computes there, in float32, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.ncnn.observe_blobs import observe

Frames = list[dict[str, np.ndarray]]

pytestmark = pytest.mark.toolchain


def results_of(graph: ExportGraph, frame: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Every tensor of the graph without its batch axis."""
    kept: list[np.ndarray] = []

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> object:
            result = super().run_node(node)
            if isinstance(result, torch.Tensor) and result.dim() > 1:
                kept.append(result[0].detach().numpy())
            return result

    Recorder(graph.module).run(*(torch.from_numpy(value) for value in frame.values()))
    return kept


def test_blobs_hold_what_pytorch_computes(
    gated_graph: ExportGraph, gated_files: tuple[Path, ...], gated_frames: Frames
) -> None:
    observed = list(observe(gated_files, gated_frames[:1]))
    assert len(observed) == 5
    np.testing.assert_array_equal(observed[0][1], gated_frames[0]["image"][0])
    expected = results_of(gated_graph, gated_frames[0])
    for name, values in observed:
        alike = [np.abs(values - one).max() for one in expected if one.shape == values.shape]
        assert min(alike) < 1e-5, name  # 4e-7 measured


def test_frames_follow_each_other_and_again_give_the_same(gated_files: tuple[Path, ...], gated_frames: Frames) -> None:
    def run(frames: Sequence[dict[str, np.ndarray]]) -> list[tuple[str, bytes]]:
        return [(name, values.tobytes()) for name, values in observe(gated_files, frames)]

    once = run(gated_frames)
    assert len(once) == 5 * len(gated_frames)
    assert once == run(gated_frames)
    assert once == [pair for frame in gated_frames for pair in run([frame])]
    assert len({values for name, values in once if name == "image"}) == len(gated_frames)


def test_frame_of_another_size_is_refused(gated_files: tuple[Path, ...]) -> None:
    with pytest.raises(UsageError, match=r"must be \(1, 3, 32, 24\), got \(1, 3, 8, 8\)"):
        list(observe(gated_files, [{"image": np.zeros((1, 3, 8, 8), np.float32)}]))
