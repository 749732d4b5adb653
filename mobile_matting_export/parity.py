"""Compare an artifact, in its own runtime and on real pictures, with the network it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobile_matting_export.errors import QualityError
from mobile_matting_export.formats.format import Format, Session
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
    """One frame: the network's inputs, what the network makes of them, and the picture.

    ``states`` are the results beside alpha, by output. A frame that follows another names in ``fed_back`` the inputs
    that come from that one's outputs, input -> output; ``inputs`` holds what the network itself gave there.
    """

    name: str
    picture: np.ndarray
    inputs: Mapping[str, np.ndarray]
    alpha: np.ndarray
    states: Mapping[str, np.ndarray] = field(default_factory=dict)
    fed_back: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StateError:
    """Difference of a state's new values over all cases, in units of their largest magnitude where that is above 1."""

    name: str
    max_abs: float
    mad: float


@dataclass(frozen=True)
class ErrorStats:
    """Difference of two mattes over all cases, in units of alpha; PSNR in dB, infinite when equal.

    ``states`` says the same of the new values of states, where the network returns any.
    """

    images: int  # frames: a network with a state sees each picture twice
    max_abs: float
    mad: float
    psnr_db: float
    worst: str
    states: tuple[StateError, ...] = ()

    def within(self, limits: Limits) -> bool:
        """Whether both limits hold, for alpha and every state (NaN never does)."""
        maxima = [self.max_abs, *(state.max_abs for state in self.states)]
        means = [self.mad, *(state.mad for state in self.states)]
        return all(value <= limits.max_abs for value in maxima) and all(value <= limits.mad for value in means)


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
    its own first result leaves. ``judge_files`` gives the artifact what the artifact's first result leaves.

    Raises:
        UsageError: the folder is missing or holds no readable picture.
    """
    if images is not None:
        pictures = [(path.name, load_picture(path)) for path in list_pictures(images)]
    else:
        pictures = [(path.name, load_picture(path)) for path in sample_pictures()]
        pictures += [(f"drawn-{seed}", make_portrait(seed, 320)[0]) for seed in range(_DRAWN)]
    return tuple(case for name, picture in pictures for case in make_frames(network, name, picture))


def make_frames(network: LoadedNetwork, name: str, picture: np.ndarray, count: int = 2) -> tuple[Case, ...]:
    """The frames of one picture, uint8 H x W x 3 RGB: one; of a network with a state ``count``, each fed the last."""
    inputs = {"image": to_input(picture, network.spec.image, network.size), **first_states(network)}
    results = run_frame(network, inputs)
    first = Case(name, picture, inputs, results["alpha"], _without_alpha(results))
    if not network.spec.state:
        return (first,)
    fed_back = {state.name: state.source for state in network.spec.state}
    frames = [first]
    for number in range(2, count + 1):
        inputs = inputs | {name: results[source] for name, source in fed_back.items()}
        results = run_frame(network, inputs)
        called = f"{name}, {'second frame' if number == 2 else f'frame {number}'}"
        frames.append(Case(called, picture, inputs, results["alpha"], _without_alpha(results), fed_back))
    return tuple(frames)


def first_states(network: LoadedNetwork) -> dict[str, np.ndarray]:
    """What the states are on a first frame, by input, float32 1xCxHxW."""
    return {state.name: np.full(state.shape(network.size), state.initial, np.float32) for state in network.spec.state}


def run_network(network: LoadedNetwork, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Alpha 1x1xHxW float32 of the original PyTorch network, in float32 on the CPU."""
    return run_frame(network, inputs)["alpha"]


def run_frame(network: LoadedNetwork, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with the new values of states beside it, by output, float32 1xCxHxW."""
    return dict(zip(network.outputs, _run(network.module, inputs), strict=True))


def _run(module: Callable[..., Any], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        results = module(*(torch.from_numpy(value) for value in inputs.values()))
    return [result.numpy() for result in (results if isinstance(results, (tuple, list)) else [results])]


def _without_alpha(results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {output: value for output, value in results.items() if output != "alpha"}


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
        outputs = run_cases(session, cases)
    finally:
        session.close()
    return Verdict(mode, session.device, _compare(cases, outputs), limits), [each["alpha"] for each in outputs]


def run_cases(session: Session, cases: Sequence[Case]) -> list[Mapping[str, np.ndarray]]:
    """All outputs of every case in an opened artifact; a frame that follows another gets the artifact's own states."""
    outputs: list[Mapping[str, np.ndarray]] = []
    for case in cases:
        own = {name: outputs[-1][source] for name, source in case.fed_back.items() if outputs}
        outputs.append(session.run({**case.inputs, **own}))
    return outputs


def _compare(cases: Sequence[Case], outputs: Sequence[Mapping[str, np.ndarray]]) -> ErrorStats:
    """Error statistics of all outputs, alpha and states."""
    names = [case.name for case in cases]
    stats = compare_mattes(names, [case.alpha for case in cases], [each["alpha"] for each in outputs])
    states = (_compare_state(name, cases, [each[name] for each in outputs]) for name in cases[0].states)
    return replace(stats, states=tuple(states))


def _compare_state(name: str, cases: Sequence[Case], found: Sequence[np.ndarray]) -> StateError:
    references = [case.states[name] for case in cases]
    if [one.shape for one in found] != [one.shape for one in references]:
        raise QualityError(f"the artifact's {name} is {found[0].shape}, the network's {references[0].shape}")
    magnitude = max(1.0, float(np.max(np.abs(references))))
    difference = np.abs(np.asarray(found, np.float64) - np.asarray(references, np.float64)) / magnitude
    return StateError(name, float(difference.max()), float(difference.mean()))


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


def compare_graphs(run: Callable[..., Any], cases: Sequence[Case]) -> ErrorStats:
    """Error of a graph module, or any function of the inputs' tensors, over the cases.

    It returns what the network does: alpha, or a tuple of alpha and states.
    """
    names = ("alpha", *cases[0].states)
    return _compare(cases, [dict(zip(names, _run(run, case.inputs), strict=True)) for case in cases])
