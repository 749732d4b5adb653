"""The training loop: stages of picture size, one learning-rate arc, averaged weights, a time budget.

The schedule is a function of the share of the time budget that is spent, not of a step count: the
learning rate reaches zero when the time is over, however fast the machine is. Seeds are fixed, but
the number of steps depends on the machine, and so does the result.
"""

from __future__ import annotations

import copy
import ctypes
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from models.training.augment import Augmenter
from models.training.portraits import Portraits

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
Predict = Callable[[nn.Module, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """Train at size x size until ``until`` (share of the whole time) is reached."""

    until: float
    size: int
    batch: int
    zoom: tuple[float, float]


@dataclass(frozen=True)
class Recipe:
    """All constants of a training run. Times in seconds."""

    stages: tuple[Stage, ...]
    peak_rate: float
    weight_decay: float
    average_decay: float
    warmup: float = 0.03
    largest_gradient: float = 2.0
    validate_every: float = 600.0
    save_every: float = 120.0


@dataclass
class Progress:
    """What a run has reached; saved with the checkpoint. ``validation_iou`` is the latest measured."""

    seconds: float = 0.0
    steps: int = 0
    pictures: int = 0
    validation_iou: float | None = None


def learning_rate(recipe: Recipe, share: float) -> float:
    """Linear warm-up, then half a cosine down to zero at ``share`` = 1."""
    if share < recipe.warmup:
        return recipe.peak_rate * share / recipe.warmup
    rest = min(1.0, (share - recipe.warmup) / (1 - recipe.warmup))
    return recipe.peak_rate * 0.5 * (1 + math.cos(math.pi * rest))


def mean_iou(predict: Predict, net: nn.Module, portraits: Portraits, size: int) -> float:
    """Mean over pictures of the IoU at 0.5, at size x size (for choosing, not for reporting)."""
    net.eval()
    scores = []
    with torch.no_grad():
        for start in range(0, len(portraits), 10):
            image = portraits.image[start : start + 10].float() / 255
            image = F.interpolate(image, (size, size), mode="bilinear", align_corners=False, antialias=True)
            truth = portraits.alpha[start : start + 10].float() / 255
            truth = F.interpolate(truth, (size, size), mode="bilinear", align_corners=False, antialias=True)
            mine, true = predict(net, image) >= 0.5, truth >= 0.5
            both, either = (mine & true).sum((1, 2, 3)), (mine | true).sum((1, 2, 3))
            scores += (both / either.clamp(min=1)).tolist()
    return sum(scores) / len(scores)


def average_into(averaged: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the averaged weights and batch-norm statistics a little towards the current ones."""
    with torch.no_grad():
        mine, new = averaged.state_dict(), net.state_dict()
        floats = [k for k, v in mine.items() if v.is_floating_point()]
        torch._foreach_lerp_([mine[k] for k in floats], [new[k] for k in floats], 1 - decay)


def train(
    recipe: Recipe,
    net: nn.Module,
    loss: Loss,
    predict: Predict,
    augmenter: Augmenter,
    validation: Portraits | None,
    budget: float,
    checkpoint: Path | None = None,
) -> tuple[nn.Module, Progress]:
    """Train ``net`` for ``budget`` seconds and return the averaged network and the progress.

    With ``checkpoint``, the run is saved there from time to time and goes on from there if the
    file exists. ``predict`` gives the matte in 0..1 at the input's size, in eval mode.
    """
    _keep_freed_memory()
    parameters = [p for p in net.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim > 1]
    rest = [p for p in parameters if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=recipe.peak_rate,
        fused=True,
    )
    net.to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(net)
    progress = Progress()
    if checkpoint and checkpoint.exists():
        progress = _resume(checkpoint, net, averaged, optimizer)
        augmenter.random.manual_seed(augmenter.random.initial_seed() + progress.steps)
    started, before = time.monotonic(), progress.seconds
    validated = saved = progress.seconds
    shown = torch.zeros(())
    while (share := progress.seconds / budget) < 1:
        stage = next(s for s in recipe.stages if share < s.until)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, share)
        image, alpha = augmenter.batch(stage.batch, stage.size, stage.zoom)
        net.train()
        optimizer.zero_grad(set_to_none=True)
        value = loss(net, image.contiguous(memory_format=torch.channels_last), alpha)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.largest_gradient)
        optimizer.step()
        progress.steps += 1
        progress.pictures += stage.batch
        average_into(averaged, net, min(recipe.average_decay, progress.steps / (progress.steps + 10)))
        shown = shown.lerp(value.detach(), 1.0 if shown == 0 else 0.02)
        progress.seconds = before + time.monotonic() - started
        if progress.steps % 50 == 0:
            _say(f"{share:5.1%} step {progress.steps} size {stage.size} loss {shown:.4f}")
        if validation and progress.seconds - validated > recipe.validate_every:
            progress.validation_iou = mean_iou(predict, averaged, validation, recipe.stages[-1].size)
            _say(f"{share:5.1%} step {progress.steps} validation IoU {progress.validation_iou:.4f}")
            validated = progress.seconds
        if checkpoint and progress.seconds - saved > recipe.save_every:
            _save(checkpoint, net, averaged, optimizer, progress)
            saved = progress.seconds
    if validation:
        progress.validation_iou = mean_iou(predict, averaged, validation, recipe.stages[-1].size)
        _say(f"done: step {progress.steps} validation IoU {progress.validation_iou:.4f}")
    if checkpoint:
        _save(checkpoint, net, averaged, optimizer, progress)
    averaged.eval()
    return averaged, progress


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed: a step takes the same gigabytes again, and page faults cost a third of it."""
    if sys.platform != "linux":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**29)):
        mallopt(name, value)


def _save(
    path: Path, net: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {
        "net": net.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress),
    }
    unfinished = path.with_suffix(".tmp")
    torch.save(parts, unfinished)
    unfinished.replace(path)


def _resume(path: Path, net: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    parts = torch.load(path, weights_only=True)
    net.load_state_dict(parts["net"])
    averaged.load_state_dict(parts["averaged"])
    optimizer.load_state_dict(parts["optimizer"])
    return Progress(**parts["progress"])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
