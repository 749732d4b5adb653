"""Score a model on folders of pictures with true mattes: ``python -m models.training.evaluate NETWORK DIR...``.

A folder holds ``image/X.jpg`` and ``alpha/X.png``. The picture goes into the network as in the
product, the matte is resized to the truth's size (bilinear, half-pixel) before scoring, all pixels
count. Definitions are those of the matting literature:

- mad, mse: mean of |a - g| and of (a - g)^2.
- iou: of {a >= 0.5} and {g >= 0.5}, per picture.
- grad_fdm: mean norm of the difference of the gradients (central differences inside, one-sided at
  the border), as in Zhu et al., "Fast Deep Matting for Portrait Animation on Mobile Phone".
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mobile_matting_export.images import from_output, list_pictures, load_picture, to_input
from mobile_matting_export.network import LoadedNetwork, load_network

Matte = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """Metrics of one picture or means over pictures; see the module."""

    mad: float
    mse: float
    iou: float
    grad_fdm: float


def score(alpha: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> Score:
    """Compare two mattes of one size, values in 0..1."""
    a, g = alpha.astype(np.float64), truth.astype(np.float64)
    error = a - g
    mine, true = a >= 0.5, g >= 0.5
    either = (mine | true).sum()
    # the gradient is linear: the difference of gradients is the gradient of the difference
    down, across = np.gradient(error)
    return Score(
        mad=float(np.abs(error).mean()),
        mse=float((error**2).mean()),
        iou=float((mine & true).sum() / either) if either else 1.0,
        grad_fdm=float(np.hypot(down, across).mean()),
    )


def predict(network: LoadedNetwork, picture: npt.NDArray[np.uint8]) -> Matte:
    """The matte of an RGB picture H x W x 3 at the picture's size."""
    tensor = torch.from_numpy(to_input(picture, network.spec.image, network.size))
    with torch.no_grad():
        alpha = network.module(tensor)
    return from_output(alpha.numpy(), network.spec.image, picture.shape)


def evaluate(network: LoadedNetwork, folder: Path) -> dict[str, Score]:
    """Scores by picture name of ``folder/image`` against ``folder/alpha``."""
    scores = {}
    for path in list_pictures(folder / "image"):
        truth = np.asarray(Image.open(folder / "alpha" / f"{path.stem}.png").convert("L")) / 255
        scores[path.stem] = score(predict(network, load_picture(path)), truth)
    return scores


def mean(scores: dict[str, Score]) -> Score:
    """The mean over pictures."""
    rows = [list(asdict(s).values()) for s in scores.values()]
    return Score(*(float(v) for v in np.mean(rows, axis=0)))


def main() -> None:
    """Print the means as JSON, the pictures' own scores too with ``--pictures``."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("network", help="name of the network, such as mmnet")
    arguments.add_argument("folders", type=Path, nargs="+")
    arguments.add_argument("--weights", type=Path, help="default: the bundled ones")
    arguments.add_argument("--pictures", action="store_true", help="each picture's scores too")
    given = arguments.parse_args()
    network = load_network(given.network, given.weights)
    result = {}
    for folder in given.folders:
        scores = evaluate(network, folder)
        result[folder.name] = {"images": len(scores), **asdict(mean(scores))}
        if given.pictures:
            result[folder.name]["pictures"] = {name: asdict(one) for name, one in scores.items()}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
