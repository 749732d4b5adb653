"""What the toolchain must know of a network besides its code: input, output, origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class ImageSpec:
    """How a picture becomes the image input: ``(pixel - mean) * scale``.

    ``pixel`` is 0..255 (uint8 range, as float32). ``mean`` and ``scale`` hold one number per
    channel, in the order named by ``color``. ``letterbox`` keeps the aspect ratio, centres the
    picture and fills the bars with the pixel value ``fill``; ``stretch`` does not keep it.
    """

    color: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1 / 255, 1 / 255, 1 / 255)
    resize: Literal["stretch", "letterbox"] = "stretch"
    fill: int = 0


@dataclass(frozen=True)
class StateSpec:
    """A map that the application feeds back from frame to frame, such as the previous alpha or a hidden state.

    It enters as a further input of shape 1 x ``channels`` x H x W, float32, with the values that
    output ``source`` had on the frame before (``initial`` on the first frame). ``size`` is (H, W), None the
    image's. The network's own ``forward`` takes it concatenated behind the image's channels, or, where it
    ``enters`` as an argument, under its name. A ``source`` other than ``alpha`` is a further output of that name.
    """

    name: str
    channels: int = 1
    source: str = "alpha"
    initial: float = 0.0
    size: tuple[int, int] | None = None
    enters: Literal["channels", "argument"] = "channels"

    def shape(self, image: tuple[int, int]) -> tuple[int, int, int, int]:
        """Its shape, 1xCxHxW, beside an image of (H, W)."""
        return (1, self.channels, *(self.size or image))


@dataclass(frozen=True)
class Head:
    """Where the alpha matte is among the results of ``forward``, and in which form.

    ``kind``: ``alpha`` one channel, clamped to [0, 1] (a linear alpha may overshoot);
    ``logit`` one channel, alpha = sigmoid; ``logits`` two or more channels, alpha = softmax at
    channel ``foreground``; ``probabilities`` as ``logits`` but already softmaxed.
    ``output`` picks one element when ``forward`` returns a tuple.
    """

    kind: Literal["alpha", "logit", "logits", "probabilities"]
    output: int | None = None
    foreground: int = 1


@dataclass(frozen=True)
class NetworkSpec:
    """One published network: how to build it, what it eats, what it returns, where it is from.

    ``size`` is (H, W) of normal use; H and W must be multiples of ``divisor``, or exactly
    ``size`` when ``fixed_size``. ``duplicates`` maps a key prefix under which published
    checkpoints store a second copy of the same tensors to the prefix of the first.
    ``build_for_state`` chooses layer variants by the shapes in a checkpoint, where publications
    leave them open.
    """

    name: str
    title: str
    paper: str
    repository: str
    licence: str
    build: Callable[[], nn.Module]
    image: ImageSpec
    size: tuple[int, int]
    divisor: int
    head: Head
    weights: str
    fixed_size: bool = False
    state: tuple[StateSpec, ...] = ()
    duplicates: Mapping[str, str] = field(default_factory=dict)
    build_for_state: Callable[[Mapping[str, torch.Tensor]], nn.Module] | None = None
