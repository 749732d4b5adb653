"""Recipe of LDN+FB at 128x128, in the paper's three stages (Fast Deep Matting, arXiv 1707.08289).

From the project's root, one call a stage; each starts from the result of the one before:

    python -m models.ldn_fb.train --stage segment
    python -m models.ldn_fb.train --stage feather
    python -m models.ldn_fb.train --stage together
    python -m models.ldn_fb.train --stage together --pictures usual --start build/training/ldn_fb_together.safetensors

The last call is ours: it goes on with portraits as they are usually framed, where the stages of the paper vary
their pictures widely. ``--stage segment --pictures usual`` does the same for the dense network alone.

A call that was stopped goes on from its ``--checkpoint`` when it is given again; to train a stage anew,
remove that file. The losses of the paper are the cross entropy of the segmentation, L_alpha and L_color;
the difference of gradients, the squared error, the optimizer (AdamW) and its rates are ours.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.networks.ldn_fb import LDNFB
from models.training.augment import Augmenter, Variation
from models.training.export import export_weights
from models.training.loop import Loss, Predict, Recipe, Stage, train
from models.training.losses import charbonnier, gradient_difference
from models.training.portraits import empty_patches, load_portraits

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "training"
SEED = 20261120


@dataclass(frozen=True)
class Pictures:
    """How training pictures are made: magnified by ``zoom``, otherwise by ``variation``."""

    variation: Variation
    zoom: tuple[float, float]


PICTURES = {
    # the paper scales by 0.75 to 1.5; no distant persons: it is about portraits, and so are the sets it is scored on
    "varied": Pictures(
        Variation(rotation_degrees=8.0, aspect=0.1, shift=0.06, background_share=0.15, distant_share=0.0), (0.75, 1.5)
    ),
    # a network of 25,641 parameters spends some of them on what is rare
    "usual": Pictures(
        Variation(rotation_degrees=3.0, aspect=0.04, shift=0.03, background_share=0.05, distant_share=0.0), (0.95, 1.1)
    ),
}

RECIPE = Recipe(
    stages=(Stage(until=1.0, size=128, batch=32, zoom=PICTURES["varied"].zoom),),
    peak_rate=2e-3,
    weight_decay=1e-4,
    average_decay=0.999,
    validate_every=240.0,
)

DENSE = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6")
FEATHERING = ("newconvF1", "newconvF2")

GRADIENT_WEIGHT = 2.0
SQUARED_WEIGHT = 4.0
"""Absolute errors alone make a matte binary where it is unsure, and its squared error worse than the segmentation's."""

SEGMENTATION_WEIGHT = 0.1
"""Of the segmentation in stage ``together``: it keeps seg a segmentation, and leaves the matte the say."""


def segment_loss(net: nn.Module, image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Cross entropy of seg against the matte as the person's probability.

    ``image`` N x 3 x H x W RGB and ``alpha`` N x 1 x H x W, both in 0..1; a scalar, as all losses here.
    """
    return _cross_entropy(net.segment(_normalized(image)), alpha)


def feather_loss(net: nn.Module, image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """L_alpha + L_color, the difference of gradients, and the squared error, all of the linear matte."""
    return _matte_loss(net(_normalized(image))[1], image, alpha)


def together_loss(net: nn.Module, image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The loss of stage ``feather`` and a little of that of ``segment``."""
    seg, matte, *_ = net(_normalized(image))
    return _matte_loss(matte, image, alpha) + SEGMENTATION_WEIGHT * _cross_entropy(seg, alpha)


def dense_matte(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Person score of the dense network alone, N x 1 x H x W in 0..1, of pictures in 0..1."""
    return net.segment(_normalized(image))[:, 1:2]


def feathered_matte(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The feathered matte, N x 1 x H x W clamped to 0..1, of pictures in 0..1."""
    return net(_normalized(image))[1].clamp(0, 1)


@dataclass(frozen=True)
class TrainingStage:
    """One of the paper's stages.

    ``learns`` names the layers that learn, the others are frozen. ``loss`` is trained on, ``matte`` is
    what validation scores. ``after`` is the stage whose result it starts from; None: random weights.
    ``minutes`` is its share of the default sequence.
    """

    name: str
    learns: tuple[str, ...]
    loss: Loss
    matte: Predict
    recipe: Recipe
    minutes: float
    after: str | None

    def freeze_others(self, net: nn.Module) -> None:
        """Let the layers of ``net`` that this stage names learn, and no other."""
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.partition(".")[0] in self.learns)

    def result(self, pictures: str = "varied") -> Path:
        """Where the weights go if nothing else is said."""
        return BUILD / f"ldn_fb_{self.name}{'' if pictures == 'varied' else f'_{pictures}'}.safetensors"

    def start(self) -> Path | None:
        """The result of the stage before, if there is one."""
        return BUILD / f"ldn_fb_{self.after}.safetensors" if self.after else None


STAGES = (
    TrainingStage("segment", DENSE, segment_loss, dense_matte, RECIPE, minutes=40.0, after=None),
    TrainingStage("feather", FEATHERING, feather_loss, feathered_matte, RECIPE, minutes=15.0, after="segment"),
    TrainingStage(
        "together",
        DENSE + FEATHERING,
        together_loss,
        feathered_matte,
        # both parts come trained, so at a lower rate
        dataclasses.replace(RECIPE, peak_rate=1e-3),
        minutes=25.0,
        after="feather",
    ),
)


def _normalized(image: torch.Tensor) -> torch.Tensor:
    # 0..1 to -1..1, the input contract of LDN_FB
    return image * 2 - 1


def _cross_entropy(seg: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    # a saturated softmax rounds to 0: one wrong pixel would cost 100 (torch caps the logarithm) and drown the rest
    return F.binary_cross_entropy(seg[:, 1:2].clamp(1e-6, 1 - 1e-6), alpha)


def _matte_loss(matte: torch.Tensor, image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    return (
        charbonnier(matte, alpha)
        + charbonnier(matte * image, alpha * image)
        + GRADIENT_WEIGHT * gradient_difference(matte, alpha)
        + SQUARED_WEIGHT * F.mse_loss(matte, alpha)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one stage, and write the averaged weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    by_name = {stage.name: stage for stage in STAGES}
    parser.add_argument("--stage", choices=by_name, required=True)
    parser.add_argument("--pictures", choices=PICTURES, default="varied", help="how far they are varied")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/train", help="image/, alpha/, *.txt")
    parser.add_argument("--start", type=Path, help="weights to start from (default: the stage before; first: random)")
    parser.add_argument("--minutes", type=float, help="of training (default: the stage's own)")
    parser.add_argument("--peak-rate", type=float, help="lower when going on from trained weights")
    parser.add_argument("--output", type=Path, help="default: build/training/ldn_fb_STAGE[_usual].safetensors")
    parser.add_argument("--checkpoint", type=Path, help="default: beside it, .pt")
    given = parser.parse_args(arguments)
    stage = by_name[given.stage]
    start = given.start or stage.start()
    if start and not start.is_file():
        parser.error(f"stage {stage.name} starts from {start}, which is not there: train the stage before, or --start")
    result = stage.result(given.pictures)
    run_stage(
        stage,
        PICTURES[given.pictures],
        data=given.data,
        start=start,
        seconds=60 * (stage.minutes if given.minutes is None else given.minutes),
        peak_rate=stage.recipe.peak_rate if given.peak_rate is None else given.peak_rate,
        output=given.output or result,
        checkpoint=given.checkpoint or result.with_suffix(".pt"),
    )


def run_stage(
    stage: TrainingStage,
    pictures: Pictures,
    data: Path,
    start: Path | None,
    seconds: float,
    peak_rate: float,
    output: Path,
    checkpoint: Path,
) -> None:
    """Train ``stage`` for ``seconds`` on the portraits of ``data``, made as ``pictures`` says; write ``output``."""
    torch.manual_seed(SEED)
    net = LDNFB()
    if start:
        net.load_state_dict(load_file(start))
    stage.freeze_others(net)
    portraits = load_portraits(data, "train.txt")
    patches = empty_patches(portraits, np.random.default_rng(SEED))
    trained, progress = train(
        dataclasses.replace(
            stage.recipe,
            stages=tuple(dataclasses.replace(part, zoom=pictures.zoom) for part in stage.recipe.stages),
            peak_rate=peak_rate,
        ),
        net,
        stage.loss,
        stage.matte,
        Augmenter(portraits.image, portraits.alpha, patches, pictures.variation, SEED),
        load_portraits(data, "val.txt"),
        seconds,
        checkpoint,
    )
    how = (
        f"stage {stage.name}: {progress.steps} steps, {progress.pictures} pictures, "
        f"{progress.seconds / 60:.0f} minutes, validation IoU {progress.validation_iou:.4f}"
    )
    export_weights(trained, output, {"network": "ldn_fb", "size": "128x128", "training": how})


if __name__ == "__main__":
    main()
