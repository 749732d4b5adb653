"""Fine-tune a network's weights for int8 against its own float mattes: no labels, a few minutes, a fixed seed.

The network in simulated int8 (``int8_student.py``) learns to give the mattes that it gives in float, on calibration
frames that are cut, mirrored and relit: its float matte is known of any picture. What it learns is counted in steps of
8 bits, so that one learning rate serves all channels: a weight goes to another integer than the nearest where that
helps the matte (as in Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020, which goes
layer by layer), and biases take back what rounding adds on average. The weights come out rounded to 8 bits, as ordinary
floats: whatever follows needs to know nothing of it.
Finds: convolutions, transposed or not, with stored weights; not box filters, which runtimes know by equal weights.
Refuses: where the loss on the frames as they are does not fall; then nothing changes.
Exact: no. In float, too, mattes move by what rounded weights move them; what int8 does to them is smaller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import fx
from torch.nn import functional as F

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.quantization.alter_frame import Frame, alter_frame
from mobile_matting_export.quantization.fake_quantize import Arithmetic
from mobile_matting_export.quantization.int8_student import Student
from mobile_matting_export.quantization.ranges import Method
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

BATCH = 4
"""Frames of one step."""

# of a step of 8 bits
_RATE = 0.02
# second moments over about 100 steps: there are only hundreds
_BETAS = (0.9, 0.99)
_WARM_UP = 0.05
# weights move, and the ranges of maps with them
_RANGES_CHOSEN = 4
# the transition band counts so much more than the rest, and squares so much that single bad pictures count
_BAND = 4.0
_SQUARES = 10.0
_BAND_MARGIN = 2
_SEED = 0
_TIMED_STEPS = 2
_JUDGED_BY = 24
_ANNOUNCED = 10


@dataclass(frozen=True)
class Tuned:
    """What came of it: ``steps`` taken, and the loss on unaltered frames in simulated int8 before and after."""

    steps: int
    before: float
    after: float


@dataclass
class Tuning:
    """The rewrite, and ``tuned`` as soon as it was applied."""

    rewrite: Rewrite
    tuned: Tuned | None = None


def tune_for_minutes(
    frames: Sequence[Frame], minutes: float, method: Method, arithmetic: Arithmetic, announce: Announce
) -> Tuning:
    """Tune for about so long on this machine; ``Tuned.steps`` says how many steps that were.

    Args:
        frames: calibration frames, positional inputs of the graph.
        minutes: of the training; the first steps are timed and their number is fixed by that.
        method: how ranges are chosen, here and later.
        arithmetic: of the runtime.
        announce: told of progress.
    """
    return _tuning(frames, lambda student: _count_steps(student, frames, minutes), method, arithmetic, announce)


def tune_by_steps(
    frames: Sequence[Frame], steps: int, method: Method, arithmetic: Arithmetic, announce: Announce
) -> Tuning:
    """Tune for so many steps: on one machine the same frames and steps give the same weights."""
    return _tuning(frames, lambda _: steps, method, arithmetic, announce)


def _tuning(
    frames: Sequence[Frame],
    count: Callable[[Student], int],
    method: Method,
    arithmetic: Arithmetic,
    announce: Announce,
) -> Tuning:
    def apply(graph_module: fx.GraphModule) -> Outcome:
        with torch.enable_grad():
            student = Student(graph_module, frames, method, arithmetic)
            if not student.convolutions:
                return Outcome(0, ("there is no convolution with stored weights to tune",))
            steps = count(student)
            before = _loss_of(student, frames[:_JUDGED_BY])
            _train(student, frames, steps, announce)
            after = _loss_of(student, frames[:_JUDGED_BY])
        tuning.tuned = Tuned(steps, before, after)
        if not after < before:
            return Outcome(0, (f"{steps} steps did not help: the loss was {before:.3g}, and {after:.3g} after them",))
        return Outcome(student.write(graph_module))

    tuning = Tuning(Rewrite("tune_weights", "weights rounded so that int8 gives the float mattes", apply, exact=False))
    return tuning


def _count_steps(student: Student, frames: Sequence[Frame], minutes: float) -> int:
    started = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        _step(student, frames[:BATCH])
    each = (time.perf_counter() - started) / _TIMED_STEPS
    student.refresh()  # forget the gradients
    return max(1, int(minutes * 60 / each))


def _train(student: Student, frames: Sequence[Frame], steps: int, announce: Announce) -> None:
    generator = torch.Generator().manual_seed(_SEED)
    adam = torch.optim.Adam(student.parameters, lr=_RATE, betas=_BETAS)
    batches = _batches(frames, generator)
    loss, begun = 0.0, time.perf_counter()
    for step in range(steps):
        if step % max(1, steps // _ANNOUNCED) == 0:
            spent = time.perf_counter() - begun
            said = f", loss {loss:.3g}, about {spent / step * (steps - step):.0f} s left" if step else ""
            announce(Part(f"tuning weights: step {step} of {steps}{said}", step, steps))
        if step and step % max(1, steps // _RANGES_CHOSEN) == 0:
            student.choose_ranges()
        adam.param_groups[0]["lr"] = _RATE * _schedule(step, steps)
        loss = _step(student, next(batches))
        adam.step()
        student.refresh()
    student.choose_ranges()


def _schedule(step: int, steps: int) -> float:
    """Up over the first twentieth, then down along a cosine."""
    return min(1.0, (step + 1) / (_WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _batches(frames: Sequence[Frame], generator: torch.Generator) -> Iterator[list[Frame]]:
    order: list[int] = []
    while True:
        batch = []
        for _ in range(BATCH):
            order = order or torch.randperm(len(frames), generator=generator).tolist()
            batch.append(alter_frame(frames[order.pop()], generator))
        yield batch


def _step(student: Student, batch: Sequence[Frame]) -> float:
    """Gradients of one step into the parameters; the loss."""
    total = 0.0
    for frame in batch:  # one by one: graphs are made for one frame
        loss = _loss(student.matte(frame), student.teach(frame)) / len(batch)
        loss.backward()
        total += float(loss.detach())
    student.collect_gradients()
    return total


def _loss_of(student: Student, frames: Sequence[Frame]) -> float:
    with torch.no_grad():
        losses = [float(_loss(student.matte(frame), student.teach(frame))) for frame in frames]
    return sum(losses) / len(losses)


def _loss(matte: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean absolute error, the transition band counting more, and mean squared error."""
    difference = (matte - wanted).abs()
    soft = ((wanted > 1 / 255) & (wanted < 254 / 255)).float()
    band = F.max_pool2d(soft, 2 * _BAND_MARGIN + 1, 1, _BAND_MARGIN)
    return (difference * (1 + _BAND * band)).mean() + _SQUARES * difference.square().mean()
