"""Recipe of MMNet at 256x256: ``python -m models.mmnet.train`` from the project's root trains the embedded 1.0.

The loss is the paper's alpha and gradient loss on the matte, cross entropy on the two logits, and
the auxiliary head's cross entropy at 1/16. Most of the time goes to 192x192 pictures, magnified
so that a person has about the pixels of a 256x256 input; the last part runs at 256x256.

``--width 0.5`` trains the narrow network in the same way. ``--teacher FILE`` lets it imitate a trained, wider
MMNet as well: the cross entropy against the teacher's matte is added to the loss.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mobile_matting_export.checkpoint import load_strictly, read_checkpoint
from mobile_matting_export.networks.mmnet import MMNET, MMNET_050, MMNET_075, MMNet, scaled_channels
from models.training.augment import Augmenter, Variation
from models.training.export import export_weights
from models.training.fused_units import fuse_units
from models.training.loop import Recipe, Stage, train
from models.training.losses import auxiliary, charbonnier, gradient_difference, soft_cross_entropy
from models.training.portraits import empty_patches, load_portraits

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "training"
SEED = 20261120
RECIPE = Recipe(
    stages=(
        Stage(until=0.7, size=192, batch=32, zoom=(0.95, 1.8)),
        Stage(until=1.0, size=256, batch=16, zoom=(0.95, 1.3)),
    ),
    peak_rate=3e-3,
    weight_decay=1e-2,
    average_decay=0.993,
)
SPECS = {1.0: MMNET, 0.75: MMNET_075, 0.5: MMNET_050}
"""Registry entries by width."""

PUBLISHED_WIDTHS = (0.5, 0.75, 1.0, 1.4)
TEACHER_WEIGHT = 1.0


class QuarterScores(nn.Module):
    """MMNet with the scores taken before the last two upsamplings, to save half of a training step.

    The last layer is a 1x1 convolution and bilinear interpolation weights sum to one, so both
    orders give the same logits up to rounding. ``net`` shares its weights and stays usable.
    """

    def __init__(self, net: MMNet) -> None:
        super().__init__()
        self.net = net
        self.upsample = net.dec_block4.upsample
        net.dec_block4.upsample = nn.Sequential()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits N x 2 x H x W float32, in training mode followed by those of the auxiliary head."""
        scores = self.net(image)
        scores = scores if isinstance(scores, tuple) else (scores,)
        # two channels are interpolated faster in NCHW order
        return self.upsample(scores[0].contiguous()), *scores[1:]


def mmnet_loss(
    net: nn.Module, image: torch.Tensor, alpha: torch.Tensor, teacher: nn.Module | None = None
) -> torch.Tensor:
    """The sum that is trained on, from a picture in 0..1 and its matte.

    ``teacher``, in eval mode, is a network of the same results; its matte of the picture is a second label.
    """
    logits, coarse = net(image)
    matte = torch.sigmoid(logits[:, 1:2] - logits[:, 0:1])
    value = (
        soft_cross_entropy(logits, alpha)
        + 2.0 * charbonnier(matte, alpha)
        + 3.0 * gradient_difference(matte, alpha)
        + 0.3 * auxiliary(coarse, alpha)
    )
    if teacher is not None:
        with torch.no_grad():
            taught = mmnet_matte(teacher, image)
        value = value + TEACHER_WEIGHT * soft_cross_entropy(logits, taught)
    return value


def mmnet_matte(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The matte N x 1 x H x W of pictures in 0..1, in eval mode."""
    logits = net(image)[0]
    return torch.sigmoid(logits[:, 1:2] - logits[:, 0:1])


def load_teacher(path: Path) -> QuarterScores:
    """A trained MMNet of any published width, in eval mode, told by the shapes in the file.

    Raises:
        UsageError: no such file, or not readable.
        CheckpointError: not the weights of an MMNet.
    """
    checkpoint = read_checkpoint(path)
    first = checkpoint.state.get("init_block.conv.conv.weight", torch.empty(0))
    widths = {scaled_channels(32, width): width for width in PUBLISHED_WIDTHS}
    # what is no MMNet at all fails the strict load of the default, which names the keys
    net = MMNet(widths.get(len(first), 1.0))
    load_strictly(net, checkpoint, {}, "the teacher, an MMNet")
    return QuarterScores(net.to(memory_format=torch.channels_last)).eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the averaged weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, choices=SPECS, default=1.0)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/train")
    parser.add_argument("--start", type=Path, help="weights to start from (default: random)")
    parser.add_argument("--teacher", type=Path, help="weights of a trained, wider MMNet to imitate (default: none)")
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--peak-rate", type=float, default=RECIPE.peak_rate, help="lower when going on from --start")
    parser.add_argument("--output", type=Path, help="default: build/training/NETWORK_256x256.safetensors")
    parser.add_argument("--checkpoint", type=Path, help="default: build/training/NETWORK.pt")
    given = parser.parse_args(arguments)
    spec = SPECS[given.width]
    torch.manual_seed(SEED)
    net = MMNet(given.width)
    if given.start:
        load_strictly(net, read_checkpoint(given.start), {}, spec.name)
    teacher = load_teacher(given.teacher) if given.teacher else None
    quarter = QuarterScores(net)
    pictures = load_portraits(given.data, "train.txt")
    patches = empty_patches(pictures, np.random.default_rng(SEED))
    augmenter = Augmenter(pictures.image, pictures.alpha, patches, Variation(), SEED)
    fuse_units(net)
    trained, progress = train(
        dataclasses.replace(RECIPE, peak_rate=given.peak_rate),
        quarter,
        partial(mmnet_loss, teacher=teacher),
        mmnet_matte,
        augmenter,
        load_portraits(given.data, "val.txt"),
        given.minutes * 60,
        given.checkpoint or BUILD / f"{spec.name}.pt",
    )
    how = (
        f"{progress.steps} steps, {progress.pictures} pictures, {progress.seconds / 60:.0f} minutes, "
        f"validation IoU {progress.validation_iou:.4f}"
    )
    if given.teacher:
        how += f", taught by {given.teacher.name}"
    output = given.output or BUILD / f"{spec.name}_256x256.safetensors"
    export_weights(trained.net, output, {"network": spec.name, "size": "256x256", "training": how})


if __name__ == "__main__":
    main()
