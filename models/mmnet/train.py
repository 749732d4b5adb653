"""Recipe of the embedded MMNet 1.0 at 256x256: ``python -m models.mmnet.train`` from the project's root.

The loss is the paper's alpha and gradient loss on the matte, cross entropy on the two logits, and
the auxiliary head's cross entropy at 1/16. Most of the time goes to 192x192 pictures, magnified
so that a person has about the pixels of a 256x256 input; the last part runs at 256x256.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from mobile_matting_export.networks.mmnet import MMNet
from models.training.augment import Augmenter, Variation
from models.training.export import export_weights
from models.training.loop import Recipe, Stage, train
from models.training.losses import auxiliary, charbonnier, gradient_difference, soft_cross_entropy
from models.training.portraits import empty_patches, load_portraits

ROOT = Path(__file__).resolve().parents[2]
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


def mmnet_loss(net: nn.Module, image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The sum that is trained on, from a picture in 0..1 and its matte."""
    logits, coarse = net(image)
    matte = torch.sigmoid(logits[:, 1:2] - logits[:, 0:1])
    return (
        soft_cross_entropy(logits, alpha)
        + 2.0 * charbonnier(matte, alpha)
        + 3.0 * gradient_difference(matte, alpha)
        + 0.3 * auxiliary(coarse, alpha)
    )


def mmnet_matte(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The matte N x 1 x H x W of pictures in 0..1, in eval mode."""
    logits = net(image)[0]
    return torch.sigmoid(logits[:, 1:2] - logits[:, 0:1])


def main() -> None:
    """Train, and write the averaged weights."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/train")
    arguments.add_argument("--start", type=Path, help="weights to start from (default: random)")
    arguments.add_argument("--minutes", type=float, default=90.0)
    arguments.add_argument("--peak-rate", type=float, default=RECIPE.peak_rate, help="lower when going on from --start")
    arguments.add_argument("--output", type=Path, default=ROOT / "build/training/mmnet_256x256.safetensors")
    arguments.add_argument("--checkpoint", type=Path, default=ROOT / "build/training/mmnet.pt")
    given = arguments.parse_args()
    torch.manual_seed(SEED)
    net = MMNet()
    if given.start:
        net.load_state_dict(load_file(given.start), strict=False)
    quarter = QuarterScores(net)
    pictures = load_portraits(given.data, "train.txt")
    patches = empty_patches(pictures, np.random.default_rng(SEED))
    augmenter = Augmenter(pictures.image, pictures.alpha, patches, Variation(), SEED)
    trained, progress = train(
        dataclasses.replace(RECIPE, peak_rate=given.peak_rate),
        quarter,
        mmnet_loss,
        mmnet_matte,
        augmenter,
        load_portraits(given.data, "val.txt"),
        given.minutes * 60,
        given.checkpoint,
    )
    how = (
        f"{progress.steps} steps, {progress.pictures} pictures, {progress.seconds / 60:.0f} minutes, "
        f"validation IoU {progress.validation_iou:.4f}"
    )
    export_weights(trained.net, given.output, {"network": "mmnet", "size": "256x256", "training": how})


if __name__ == "__main__":
    main()
