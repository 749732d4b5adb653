"""Losses between a predicted matte and the true one; all means over pixels, float32."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def soft_cross_entropy(logits: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Cross entropy of two-channel logits against the matte as the person's probability."""
    return F.binary_cross_entropy_with_logits(logits[:, 1:2] - logits[:, 0:1], alpha)


def charbonnier(predicted: torch.Tensor, alpha: torch.Tensor, eps: float = 1e-3) -> torch.Tensor:
    """A differentiable absolute error, sqrt(d^2 + eps^2) - eps (the alpha loss of MMNet and LDN+FB)."""
    return (torch.sqrt((predicted - alpha) ** 2 + eps * eps) - eps).mean()


def gradient_difference(predicted: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the first differences along both axes (MMNet's gradient loss)."""
    error = predicted - alpha
    across = (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return across + down


def auxiliary(logits: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Cross entropy of a coarse head against the matte averaged to its size."""
    return soft_cross_entropy(logits, F.adaptive_avg_pool2d(alpha, logits.shape[-2:]))
