"""Recipe of LDN+FB at 128x128: ``python -m models.ldn_fb.train`` from the project's root.

The paper trains in three stages (dense network, feathering block, both); here both are trained at
once from a start whose stages were done, with the sum of the stages' losses: cross entropy on the
segmentation, and the alpha and colour losses on the matte, besides the difference of gradients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.networks.ldn_fb import LDNFB
from models.training.augment import Augmenter, Variation
from models.training.export import export_weights
from models.training.loop import Recipe, Stage, train
from models.training.losses import charbonnier, gradient_difference
from models.training.portraits import empty_patches, load_portraits

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261120
RECIPE = Recipe(
    stages=(Stage(until=1.0, size=128, batch=32, zoom=(0.85, 1.5)),),
    peak_rate=2e-3,
    weight_decay=1e-4,
    average_decay=0.998,
)


def ldn_fb_loss(net: nn.Module, image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The sum that is trained on, from a picture in 0..1 and its matte."""
    seg, matte, *_ = net(image * 2 - 1)
    person = seg[:, 1:2].clamp(1e-6, 1 - 1e-6)
    return (
        F.binary_cross_entropy(person, alpha)
        + charbonnier(matte, alpha)
        + charbonnier(matte * image, alpha * image)
        + 2.0 * gradient_difference(matte, alpha)
    )


def ldn_fb_matte(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The matte N x 1 x H x W of pictures in 0..1, in eval mode."""
    return net(image * 2 - 1)[1].clamp(0, 1)


def main() -> None:
    """Train, and write the averaged weights."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/train")
    arguments.add_argument("--start", type=Path, help="weights to start from (default: random)")
    arguments.add_argument("--minutes", type=float, default=25.0)
    arguments.add_argument("--output", type=Path, default=ROOT / "build/training/ldn_fb_128x128.safetensors")
    arguments.add_argument("--checkpoint", type=Path, default=ROOT / "build/training/ldn_fb.pt")
    given = arguments.parse_args()
    torch.manual_seed(SEED)
    net = LDNFB()
    if given.start:
        net.load_state_dict(load_file(given.start))
    pictures = load_portraits(given.data, "train.txt")
    patches = empty_patches(pictures, np.random.default_rng(SEED))
    augmenter = Augmenter(pictures.image, pictures.alpha, patches, Variation(), SEED)
    trained, progress = train(
        RECIPE,
        net,
        ldn_fb_loss,
        ldn_fb_matte,
        augmenter,
        load_portraits(given.data, "val.txt"),
        given.minutes * 60,
        given.checkpoint,
    )
    how = (
        f"{progress.steps} steps, {progress.pictures} pictures, {progress.seconds / 60:.0f} minutes, "
        f"validation IoU {progress.validation_iou:.4f}"
    )
    export_weights(trained, given.output, {"network": "ldn_fb", "size": "128x128", "training": how})


if __name__ == "__main__":
    main()
