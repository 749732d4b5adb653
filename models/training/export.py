"""Trained weights to a small file: values rounded to float16, safetensors, with metadata."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn


def export_weights(net: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the state dict of ``net`` as float16, without batch counters, under its own key names."""
    tensors = {
        key: value.detach().to(torch.float16).contiguous()
        for key, value in net.state_dict().items()
        if value.is_floating_point()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=metadata)
