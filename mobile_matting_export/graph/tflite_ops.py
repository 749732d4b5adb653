"""Operators that TFLite has and ATen has not, as PyTorch operators on NCHW maps.

A graph that holds them runs in PyTorch like any other, so the ledger measures it. Only rows of
TFLite targets put them there; ``formats/tflite/native_ops.py`` writes each as the one TFLite operator
of its name. They can be trained through: all are linear, so each gradient is the transposed operator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F


@torch.library.custom_op("mmexport::resize_bilinear_legacy", mutates_args=())
def _resize_bilinear_legacy(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    rows = _interpolate(image, height, axis=2)
    return _interpolate(rows, width, axis=3)


@_resize_bilinear_legacy.register_fake
def _(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return image.new_empty(*image.shape[:2], height, width)


@torch.library.custom_op("mmexport::depth_to_space", mutates_args=())
def _depth_to_space(image: torch.Tensor, block: int) -> torch.Tensor:
    batch, channels, height, width = image.shape
    parts = image.reshape(batch, block, block, channels // block**2, height, width)
    pixels = parts.permute(0, 3, 4, 1, 5, 2).clone(memory_format=torch.contiguous_format)  # a result may be no view
    return pixels.view(batch, channels // block**2, height * block, width * block)


@_depth_to_space.register_fake
def _(image: torch.Tensor, block: int) -> torch.Tensor:
    batch, channels, height, width = image.shape
    return image.new_empty(batch, channels // block**2, height * block, width * block)


@torch.library.custom_op("mmexport::crop", mutates_args=())
def _crop(image: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    return image[:, :, top : top + height, left : left + width].clone(memory_format=torch.contiguous_format)


@_crop.register_fake
def _(image: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    return image.new_empty(*image.shape[:2], height, width)


@torch.library.custom_op("mmexport::spread_columns", mutates_args=())
def _spread_columns(image: torch.Tensor, channels: int) -> torch.Tensor:
    batch, _, height, _ = image.shape
    rows = image.permute(0, 2, 3, 1).reshape(batch, height, -1, channels)
    return rows.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)


@_spread_columns.register_fake
def _(image: torch.Tensor, channels: int) -> torch.Tensor:
    batch, together, height, width = image.shape
    return image.new_empty(batch, channels, height, width * together // channels)


RESIZE_BILINEAR_LEGACY = torch.ops.mmexport.resize_bilinear_legacy.default
"""(N x C x H x W, height, width) to N x C x height x width, floating point: TensorFlow 1's bilinear
resize, ``RESIZE_BILINEAR`` with neither align_corners nor half_pixel_centers. Output row i lies at
i * H / height of the input's rows; past the last row the last row counts. Columns alike."""

DEPTH_TO_SPACE = torch.ops.mmexport.depth_to_space.default
"""(N x block*block*C x H x W, block) to N x C x block*H x block*W, any type: ``DEPTH_TO_SPACE``.
Input channel (p * block + q) * C + c becomes the pixels (block*i + p, block*j + q) of channel c;
``torch.pixel_shuffle`` has the channels in another order, (c * block + p) * block + q."""

CROP = torch.ops.mmexport.crop.default
"""(N x C x H x W, top, left, height, width) to N x C x height x width, any type: one ``SLICE`` along both
axes. ATen slices one axis at a time, and a converter makes two copies of that."""

SPREAD_COLUMNS = torch.ops.mmexport.spread_columns.default
"""(N x b*C x H x W, C) to N x C x H x b*W, any type: input channel j * C + c of column x becomes channel c of
column x * b + j. With channels last the numbers stay where they are: a ``RESHAPE``."""


def _interpolate(image: torch.Tensor, length: int, axis: int) -> torch.Tensor:
    """Linear interpolation of ``image`` to ``length`` samples along ``axis``."""
    first, second, share = _positions(image.shape[axis], length, image)
    share = share.view(-1, *[1] * (3 - axis))
    low, high = image.index_select(axis, first), image.index_select(axis, second)
    return low + (high - low) * share


def _positions(before: int, length: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each of ``length`` samples the two of ``before`` that it lies between, and the share of the second."""
    positions = torch.arange(length, dtype=torch.float64, device=like.device) * before / length
    first = positions.long()
    return first, (first + 1).clamp(max=before - 1), (positions - first).to(like.dtype)


def _give_back(gradient: torch.Tensor, before: int, axis: int) -> torch.Tensor:
    """The transpose of ``_interpolate``: every sample gives to the two that it was made of."""
    first, second, share = _positions(before, gradient.shape[axis], gradient)
    share = share.view(-1, *[1] * (3 - axis))
    sides = list(gradient.shape)
    sides[axis] = before
    result = gradient.new_zeros(sides)
    return result.index_add(axis, first, gradient * (1 - share)).index_add(axis, second, gradient * share)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.shape, ctx.settings = inputs[0].shape, inputs[1:]


def _resize_back(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    rows = _give_back(gradient, ctx.shape[3], axis=3)
    return _give_back(rows, ctx.shape[2], axis=2), None, None


def _depth_to_space_back(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    (block,), (batch, channels, height, width) = ctx.settings, ctx.shape
    parts = gradient.reshape(batch, channels // block**2, height, block, width, block)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(ctx.shape), None


def _crop_back(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    top, left, height, width = ctx.settings
    edges = (left, ctx.shape[3] - left - width, top, ctx.shape[2] - top - height)
    return F.pad(gradient, edges), None, None, None, None


def _spread_columns_back(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    batch, together, height, width = ctx.shape
    rows = gradient.permute(0, 2, 3, 1).reshape(batch, height, width, together)
    return rows.permute(0, 3, 1, 2), None


_resize_bilinear_legacy.register_autograd(_resize_back, setup_context=_remember)
_depth_to_space.register_autograd(_depth_to_space_back, setup_context=_remember)
_crop.register_autograd(_crop_back, setup_context=_remember)
_spread_columns.register_autograd(_spread_columns_back, setup_context=_remember)
