"""Recipe of PortraitNet (RGB) at 224x224: ``python -m models.portraitnet.train`` from the project's root.

From the paper and its published configuration: the network sees each picture A, varied in geometry
only, and A', the same picture with other colours, less detail and noise, and learns from

- the cross entropy of the mask, on A and on A';
- 0.1 times the focal loss (gamma 2) of the boundary, a second head on the last map, on A' (0.1 is the published
  configuration's; the paper says 0.3);
- 2 times the Kullback-Leibler divergence of the mask on A' from that on A, which is the soft label (temperature 1).

Ours are: soft mattes as the labels of the mask, outlines of the matte where the publication has Canny's edges of a
mask, A and A' in one batch (so that the batch norms see both), the letterbox as part of each training picture,
transposed convolutions that start as bilinear interpolation, AdamW with its schedule, and random weights at
the start, where the paper starts the encoder from ImageNet. The weight decay of the publication (L2 within
Adam) drives most channels to zero; decoupled decay does not.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mobile_matting_export.checkpoint import load_strictly, read_checkpoint
from mobile_matting_export.networks.portraitnet import PORTRAITNET, PortraitNet, PortraitNetWithEdge
from models.training.augment import Augmenter, Variation
from models.training.export import export_weights
from models.training.loop import Recipe, Stage, train
from models.training.losses import soft_cross_entropy
from models.training.portraits import Portraits, empty_patches, load_portraits

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "training"
SEED = 20261120

RECIPE = Recipe(
    # a batch is of pairs: the network sees twice as many pictures
    stages=(
        Stage(until=0.7, size=160, batch=16, zoom=(0.95, 1.8)),
        Stage(until=1.0, size=224, batch=8, zoom=(0.95, 1.3)),
    ),
    peak_rate=2e-3,
    weight_decay=1e-2,
    average_decay=0.993,
)

BOUNDARY_WEIGHT = 0.1
BOUNDARY_FOCUS = 2.0
"""Gamma of the focal loss."""
CONSISTENCY_WEIGHT = 2.0

BOUNDARY_REACH = 2
"""Pixels on either side of the outline that count as boundary (assumed)."""

LANDSCAPE_SHARE = 0.3
"""Of the pictures that fill the input's width."""
LANDSCAPE_BARS = (0.08, 0.22)
"""Heights of a bar, as shares of the input's side: 3:2 leaves 0.17, 16:9 leaves 0.22."""


class PairAugmenter(Augmenter):
    """Draws batches of pairs, for N mattes 2N pictures: first all A, then all A' in the same order."""

    def degrade(self, image: torch.Tensor) -> torch.Tensor:
        """Pictures N x 3 x S x S in 0..1 as they are, followed by degraded ones: 2N x 3 x S x S."""
        return torch.cat((image.clamp(0, 1), super().degrade(image)))

    def batch(self, count: int, size: int, zoom: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
        """The next ``count`` pairs and their mattes, some of them letterboxed as a picture in landscape is."""
        image, alpha = super().batch(count, size, zoom)
        grey = PORTRAITNET.image.fill / 255
        sides = image[:count, :, :, [0, -1]]
        upright = ((sides - grey).abs().amax(dim=1) < 1e-3).any(dim=(1, 2))
        # the training pictures are upright, but where their bars are out of sight there may be some above and below
        for i in (self._chance(count, LANDSCAPE_SHARE) & ~upright).nonzero()[:, 0]:
            height = round(size * float(self._uniform(1, *LANDSCAPE_BARS)))
            for bar in (slice(height), slice(size - height, size)):
                image[i::count, :, bar] = grey
                alpha[i, :, bar] = 0
        return image, alpha


class BoundaryScores(nn.Module):
    """PortraitNet with both of its heads in training mode. ``net`` shares its weights and stays usable."""

    def __init__(self, net: PortraitNetWithEdge) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Normalized BGR N x 3 x H x W to logits N x 2 x H x W; in training mode those of the boundary too."""
        if not self.training:
            return self.net(x)
        # both heads read one map, which the network, as it is exported, does not return
        with self.net.pred.register_forward_hook(lambda _, read, logits: (logits, self.net.edge(read[0]))):
            return self.net(x)


def letterboxed(portraits: Portraits) -> Portraits:
    """Portraits in the middle of squares, with the bars that ``to_input`` adds and no person on them."""
    height, width = portraits.image.shape[-2:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    frame = (left, side - width - left, top, side - height - top)
    image = F.pad(portraits.image, frame, value=PORTRAITNET.image.fill)
    return Portraits(portraits.names, image, F.pad(portraits.alpha, frame))


def normalized(image: torch.Tensor) -> torch.Tensor:
    """RGB N x 3 x H x W in 0..1 as the network takes it: BGR, ``(pixel - mean) * scale`` of 0..255."""
    spec = PORTRAITNET.image
    mean, scale = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.scale))
    return (image.flip(1) * 255 - mean) * scale


def boundary(alpha: torch.Tensor) -> torch.Tensor:
    """The outline of the matte's upper half as a band: bool, of the shape N x 1 x H x W of ``alpha``.

    Where the picture's frame cuts the person there is no outline.
    """
    person = (alpha >= 0.5).float()
    # the padding of a max pooling never wins, here nor in the negative
    window = {"kernel_size": 2 * BOUNDARY_REACH + 1, "stride": 1, "padding": BOUNDARY_REACH}
    return F.max_pool2d(person, **window) > -F.max_pool2d(-person, **window)


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Focal loss of logits N x 2 x H x W against a bool map N x 1 x H x W: sure pixels count less."""
    entropy = F.cross_entropy(logits, target[:, 0].long(), reduction="none")
    return ((1 - torch.exp(-entropy)) ** BOUNDARY_FOCUS * entropy).mean()


def consistency(degraded: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """Divergence of the prediction on A' from that on A, which learns nothing from it; N x 2 x H x W logits.

    As published, a mean over pixels and channels: half of the divergence a pixel.
    """
    label = plain.detach().softmax(dim=1)
    return F.kl_div(degraded.log_softmax(dim=1), label, reduction="none").mean()


def portraitnet_loss(net: nn.Module, image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The sum that is trained on, from pairs 2N x 3 x H x W in 0..1 and their mattes N x 1 x H x W."""
    logits, edges = net(normalized(image))
    plain, degraded = logits.chunk(2)
    return (
        soft_cross_entropy(plain, alpha)
        + soft_cross_entropy(degraded, alpha)
        + BOUNDARY_WEIGHT * focal_loss(edges.chunk(2)[1], boundary(alpha))
        + CONSISTENCY_WEIGHT * consistency(degraded, plain)
    )


def portraitnet_matte(net: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The matte N x 1 x H x W of pictures in 0..1, in eval mode."""
    return net(normalized(image)).softmax(dim=1)[:, 1:2]


def start_as_interpolation(net: nn.Module) -> None:
    """Let every transposed convolution (4x4, stride 2) of ``net`` double each of its channels bilinearly."""
    along = torch.tensor([0.25, 0.75, 0.75, 0.25])
    for module in net.modules():
        if isinstance(module, nn.ConvTranspose2d):
            each = torch.arange(module.in_channels)
            with torch.no_grad():
                module.weight.zero_()
                module.weight[each, each] = torch.outer(along, along)


def start_from(net: PortraitNetWithEdge, path: Path) -> None:
    """Load weights as ``main`` writes them; the boundary's head, which they lack, stays as it is."""
    used = PortraitNet()
    load_strictly(used, read_checkpoint(path), {}, PORTRAITNET.name)
    net.load_state_dict(used.state_dict(), strict=False)


def without_boundary(net: PortraitNetWithEdge) -> PortraitNet:
    """The network as it is used: a copy without the boundary's head, in eval mode."""
    used = PortraitNet()
    used.load_state_dict({key: value for key, value in net.state_dict().items() if not key.startswith("edge.")})
    return used.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the averaged weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/train")
    parser.add_argument("--start", type=Path, help="weights to start from (default: random)")
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--peak-rate", type=float, default=RECIPE.peak_rate, help="lower when going on from --start")
    parser.add_argument("--output", type=Path, default=BUILD / "portraitnet_224x224.safetensors")
    parser.add_argument("--checkpoint", type=Path, default=BUILD / "portraitnet.pt")
    given = parser.parse_args(arguments)
    torch.manual_seed(SEED)
    net = PortraitNetWithEdge()
    start_as_interpolation(net)
    if given.start:
        start_from(net, given.start)
    pictures = load_portraits(given.data, "train.txt")
    # of the pictures before they are framed: the largest person-free patch would be a bar
    patches = empty_patches(pictures, np.random.default_rng(SEED))
    framed = letterboxed(pictures)
    trained, progress = train(
        dataclasses.replace(RECIPE, peak_rate=given.peak_rate),
        BoundaryScores(net),
        portraitnet_loss,
        portraitnet_matte,
        PairAugmenter(framed.image, framed.alpha, patches, Variation(), SEED),
        letterboxed(load_portraits(given.data, "val.txt")),
        given.minutes * 60,
        given.checkpoint,
    )
    how = (
        f"{progress.steps} steps, {progress.pictures} pictures, {progress.seconds / 60:.0f} minutes, "
        f"validation IoU {progress.validation_iou:.4f}"
    )
    metadata = {"network": PORTRAITNET.name, "size": "224x224", "training": how}
    export_weights(without_boundary(trained.net), given.output, metadata)


if __name__ == "__main__":
    main()
