"""How much each layer, and each block, of a network suffers from int8: measured on the matte, in real files."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.quantization.judge_plan import PlanJudge
from mobile_matting_export.quantization.layer import QuantizableLayer
from mobile_matting_export.quantization.score import Score

FRAMES = 8
"""Frames of the held-out pictures that a layer is judged on; decisions are made on all of them."""


@dataclass(frozen=True)
class Sensitivity:
    """``alone``: the matte's error when only this layer is int8; None where no such file can be made."""

    layer: QuantizableLayer
    alone: Score | None


@dataclass(frozen=True)
class BlockSensitivity:
    """A block is what one PyTorch module holds directly.

    ``without``: the error when everything is int8 but the block.
    """

    module: str
    layers: tuple[str, ...]
    without: Score | None


def measure_layers(judge: PlanJudge, floats: frozenset[str], announce: Announce) -> tuple[Sensitivity, ...]:
    """Each layer in int8 alone, those in ``floats`` left out; the most harmful first, what cannot be alone last."""
    names = frozenset(layer.name for layer in judge.layers)
    asked = [layer for layer in judge.layers if layer.name not in floats]
    found = []
    left = _Left(len(asked), "layers", announce)
    for layer in asked:
        left.next()
        found.append(Sensitivity(layer, judge.score(names - {layer.name}, FRAMES)))
    return tuple(sorted(found, key=lambda one: (-_harm(one.alone), one.layer.name)))


def measure_blocks(judge: PlanJudge, floats: frozenset[str], announce: Announce) -> tuple[BlockSensitivity, ...]:
    """All in int8 but ``floats`` and one block; the block whose float form helps most first, unmade ones last."""
    blocks: dict[str, list[str]] = {}
    for layer in judge.layers:
        if layer.name not in floats:
            blocks.setdefault(block_of(layer), []).append(layer.name)
    found = []
    left = _Left(len(blocks), "blocks", announce)
    for module, names in blocks.items():
        left.next()
        found.append(BlockSensitivity(module, tuple(names), judge.score(floats | frozenset(names), FRAMES)))
    return tuple(sorted(found, key=lambda one: (one.without is None, _harm(one.without), one.module)))


def block_of(layer: QuantizableLayer) -> str:
    """The module that holds the layer's own: ``net.stage_0.dense_layers.1`` of ``net.stage_0.dense_layers.1.conv``."""
    return layer.module.rpartition(".")[0]


class _Left:
    """Says ten times in all how far the measuring is, and how long the rest will take."""

    def __init__(self, total: int, what: str, announce: Announce) -> None:
        self._total, self._what, self._announce = total, what, announce
        self._done, self._begun = 0, time.monotonic()

    def next(self) -> None:
        if self._done % max(self._total // 10, 1) == 0:
            spent = time.monotonic() - self._begun
            rest = f", about {spent / self._done * (self._total - self._done):.0f} s left" if self._done else ""
            said = f"sensitivity: {self._done} of {self._total} {self._what} measured{rest}"
            self._announce(Part(said, self._done, self._total))
        self._done += 1


def _harm(score: Score | None) -> float:
    return 0.0 if score is None else score.mad_band
