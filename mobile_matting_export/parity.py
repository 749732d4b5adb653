"""Compare an artifact, in its own runtime and on real pictures, with the network it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mobile_matting_export.errors import QualityError
from mobile_matting_export.formats.format import Format
from mobile_matting_export.images import list_pictures, load_picture, sample_pictures, to_input
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.procedural_portraits import make_portrait
from mobile_matting_export.targets import Limits

# beside the photographs: drawn portraits bring hair strands and exact edges at any size
_DRAWN = 2
# sigmoid and clamp of half floats end within it
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Case:
    """One frame: the network's inputs, what the network makes of them, and the picture."""

    name: str
    picture: np.ndarray
    inputs: Mapping[str, np.ndarray]
    alpha: np.ndarray


@dataclass(frozen=True)
class ErrorStats:
    """Difference of two mattes over all cases, in units of alpha; PSNR in dB, infinite when equal."""

    images: int  # frames: a network with a state sees each picture twice
    max_abs: float
    mad: float
    psnr_db: float
    worst: str

    def within(self, limits: Limits) -> bool:
        """Whether both limits hold (NaN never does)."""
        return self.max_abs <= limits.max_abs and self.mad <= limits.mad


@dataclass(frozen=True)
class Verdict:
    """How an artifact did: the accelerator mode and device it ran on, the error, and what was allowed."""

    mode: str
    device: str
    stats: ErrorStats
    limits: Limits

    @property
    def passed(self) -> bool:
        """Whether the artifact is the same matte within the limits."""
        return self.stats.within(self.limits)


def make_cases(network: LoadedNetwork, images: Path | None = None) -> tuple[Case, ...]:
    """Verification frames: the pictures of a folder, else the bundled photographs and drawn portraits.

    A network with a state gets every picture twice: with the empty state, and with the state that
    its own first result leaves.

    Raises:
        UsageError: the folder is missing or holds no readable picture.
    """
    if images is not None:
        pictures = [(path.name, load_picture(path)) for path in list_pictures(images)]
    else:
        pictures = [(path.name, load_picture(path)) for path in sample_pictures()]
        pictures += [(f"drawn-{seed}", make_portrait(seed, 320)[0]) for seed in range(_DRAWN)]
    cases: list[Case] = []
    for name, picture in pictures:
        inputs = {"image": to_input(picture, network.spec.image, network.size)}
        for state in network.spec.state:
            shape = (1, state.channels, *network.size)
            inputs[state.name] = np.full(shape, state.initial, dtype=np.float32)
        first = Case(name, picture, inputs, run_network(network, inputs))
        cases.append(first)
        if network.spec.state:
            fed_back = inputs | {state.name: first.alpha for state in network.spec.state if state.source == "alpha"}
            cases.append(Case(f"{name}, second frame", picture, fed_back, run_network(network, fed_back)))
    return tuple(cases)


def run_network(network: LoadedNetwork, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Alpha 1x1xHxW float32 of the original PyTorch network, in float32 on the CPU."""
    with torch.no_grad():
        alpha = network.module(*(torch.from_numpy(value) for value in inputs.values()))
    return alpha.numpy()


def judge_files(
    file_format: Format, files: tuple[Path, ...], mode: str, cases: Sequence[Case], limits: Limits
) -> tuple[Verdict, list[np.ndarray]]:
    """Run every case in the files' own runtime; returns the verdict and the artifact's mattes.

    Args:
        file_format: opens the files.
        files: the artifact's model files.
        mode: accelerator mode, see ``Format.open``.
        cases: what the network makes of the pictures.
        limits: how far the artifact may be from it.
    """
    session = file_format.open(files, mode)
    try:
        mattes = [session.run(case.inputs)["alpha"] for case in cases]
    finally:
        session.close()
    stats = compare_mattes([case.name for case in cases], [case.alpha for case in cases], mattes)
    return Verdict(mode, session.device, stats, limits), mattes


def compare_mattes(names: Sequence[str], references: Sequence[np.ndarray], mattes: Sequence[np.ndarray]) -> ErrorStats:
    """Error statistics of ``mattes`` against ``references``, in float64.

    Raises:
        QualityError: a matte of another shape (it would broadcast), or one outside [0, 1].
    """
    maxima, means, squares = [], [], []
    for name, reference, matte in zip(names, references, mattes, strict=True):
        if matte.shape != reference.shape:
            raise QualityError(f"the artifact's alpha is {matte.shape} on {name}, the network's {reference.shape}")
        if matte.min() < -_ROUNDING or matte.max() > 1 + _ROUNDING:
            raise QualityError(
                f"the artifact's alpha reaches from {matte.min():.3g} to {matte.max():.3g} on {name}, beyond [0, 1]"
            )
        difference = np.abs(matte.astype(np.float64) - reference.astype(np.float64))
        maxima.append(float(difference.max()))
        means.append(float(difference.mean()))
        squares.append(float(np.square(difference).mean()))
    worst = int(np.argmax([math.inf if math.isnan(value) else value for value in maxima]))
    mse = float(np.mean(squares))
    psnr = math.inf if mse == 0 else 10 * math.log10(1 / mse) if mse == mse else math.nan
    return ErrorStats(len(names), float(np.max(maxima)), float(np.mean(means)), psnr, names[worst])


def compare_graphs(run: Callable[..., torch.Tensor], cases: Sequence[Case]) -> ErrorStats:
    """Error of a graph module, or any function of the inputs' tensors, over the cases."""
    with torch.no_grad():
        mattes = [run(*(torch.from_numpy(v) for v in case.inputs.values())).numpy() for case in cases]
    return compare_mattes([case.name for case in cases], [case.alpha for case in cases], mattes)
