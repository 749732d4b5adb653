from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.require_acceleration import require_gpu
from mobile_matting_export.rewrites.spell_replicate_pad import SPELL_REPLICATE_PAD

aten = torch.ops.aten

PADS = (aten.pad.default, aten.replication_pad2d.default)


class Pad(nn.Module):
    def __init__(self, sides: Sequence[int], mode: str = "replicate") -> None:
        super().__init__()
        self.sides, self.mode = list(sides), mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.sides, self.mode)


@pytest.mark.parametrize("sides", [(1, 1, 1, 1), (0, 1, 0, 0), (2, 0, 3, 4)], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 37, 45), (1, 3, 1, 2)], ids=str)
def test_borders_are_repeated_bit_for_bit(attempt: Any, sides: tuple[int, ...], shape: tuple[int, ...]) -> None:
    trial = attempt(SPELL_REPLICATE_PAD, Pad(sides), shape)

    assert (trial.outcome.changes, trial.outcome.refusals, trial.count(*PADS)) == (1, (), 0)
    assert trial.error == trial.ring_error == 0
    assert trial.count(aten.cat.default) == (any(sides[:2]) + any(sides[2:]))


def test_a_convolution_that_pads_so_is_found(attempt: Any) -> None:
    trial = attempt(SPELL_REPLICATE_PAD, nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate"))

    assert (trial.outcome.changes, trial.count(*PADS)) == (1, 0)
    assert trial.error == trial.ring_error == 0


@pytest.mark.parametrize("sides", [(5, 5, 0, 0), (-1, 1, 1, 1)], ids=str)
def test_wide_pads_and_cuts_are_refused(attempt: Any, sides: tuple[int, ...]) -> None:
    trial = attempt(SPELL_REPLICATE_PAD, Pad(sides))

    assert trial.outcome.changes == 0 and "are not within 0 to 4" in trial.outcome.refusals[0]


@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_other_pads_are_not_looked_at(attempt: Any, mode: str) -> None:
    trial = attempt(SPELL_REPLICATE_PAD, Pad((1, 1, 1, 1), mode))

    assert (trial.outcome.changes, trial.outcome.refusals, trial.count(*PADS)) == (0, (), 1)


@pytest.mark.toolchain
def test_the_gpu_takes_all_of_it(attempt: Any, tmp_path: Path) -> None:
    trial = attempt(SPELL_REPLICATE_PAD, nn.Conv2d(3, 1, 3, padding=1, padding_mode="replicate"), (1, 3, 16, 12))
    graph = ExportGraph(trial.graph, {"image": torch.rand(1, 3, 16, 12)})

    (path,) = TFLITE.emit(graph, "fp32", tmp_path, "net")

    require_gpu(path)
    assert "MIRROR_PAD" not in TFLITE.count_ops((path,))
