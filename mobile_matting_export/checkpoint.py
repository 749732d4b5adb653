"""Read a checkpoint safely (tensors only) and fit it to a network, strictly.

``.pt .pth .ckpt`` are read with ``weights_only=True``: nothing beyond tensors and plain containers
is ever unpickled. ``.safetensors`` files are read by their own package; of TorchScript archives the
tensors are read, and the program in them is not run (``torchscript_archive.py``).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobile_matting_export.errors import CheckpointError, UsageError
from mobile_matting_export.torchscript_archive import is_torchscript_archive, read_tensors

# training scripts wrap the state dict under one of these
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
# and DataParallel, Lightning and compiled modules put one of these before every key
_PREFIXES = ("module.", "model.", "net.", "network.", "_orig_mod.")
_NAMED_KEYS = 4
# a pickle may hold itself: no training script wraps deeper than this
_MAX_NESTING = 8
# every pickle of protocol 2 or later begins with this opcode, and text never does
_PICKLE = b"\x80"


@dataclass(frozen=True)
class Checkpoint:
    """A state dict and the file it came from, as given. Floating tensors are float32 on the CPU."""

    file: str
    sha256: str
    state: Mapping[str, torch.Tensor]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of a checkpoint file.

    Raises:
        UsageError: no such file, a directory, not readable.
        CheckpointError: empty, truncated, not a checkpoint, or holding more than tensors.
    """
    if path.is_dir():
        raise UsageError(f"checkpoint {path} is a folder: name the file in it (.pt, .pth, .ckpt or .safetensors)")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"checkpoint {path} does not exist") from None
    except OSError as error:
        raise UsageError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    if not content:
        raise CheckpointError(f"checkpoint {path} is empty: the download or the copy did not finish")
    loaded = _load(path)
    state = _floats(_strip_prefixes(_unwrap(path, loaded)))
    return Checkpoint(str(path), hashlib.sha256(content).hexdigest(), state)


def load_strictly(module: nn.Module, checkpoint: Checkpoint, duplicates: Mapping[str, str], network: str) -> None:
    """Load the tensors into ``module``; every key must fit.

    ``duplicates`` maps the prefix of a second copy of the same tensors to the first's; an absent
    copy is filled in, a differing one is an error. Counters of batches seen may be absent.

    Raises:
        CheckpointError: missing, unexpected or wrongly shaped tensors, named.
    """
    expected = module.state_dict()
    state = _with_duplicates(checkpoint, duplicates)
    lead = _shared_prefix(expected)
    state = {lead + key: tensor for key, tensor in state.items()}
    for key, tensor in expected.items():
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, tensor)
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"checkpoint {checkpoint.file} does not fit {network}: "
            f"missing {_some(missing)}; unexpected {_some(unexpected)}. Is it another network's, or another variant?"
        )
    shapes = [
        f"{key} is {_size(state[key])}, expected {_size(expected[key])}"
        for key in sorted(expected)
        if state[key].shape != expected[key].shape
    ]
    if shapes:
        raise CheckpointError(
            f"checkpoint {checkpoint.file} does not fit {network}: {_some(shapes)}. Another width or variant?"
        )
    integers = [key for key in sorted(expected) if expected[key].is_floating_point() > state[key].is_floating_point()]
    if integers:
        raise CheckpointError(
            f"checkpoint {checkpoint.file} holds {state[integers[0]].dtype} numbers in {_some(integers)}: "
            "quantized weights are not taken, give the floating-point ones"
        )
    broken = [key for key in sorted(expected) if not torch.isfinite(state[key]).all()]
    if broken:
        raise CheckpointError(
            f"checkpoint {checkpoint.file} holds NaN or infinity in {_some(broken)}: training diverged"
        )
    module.load_state_dict(state, strict=True)


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on pickle protocols just before it refuses the file
            return _read_file(path)
    except CheckpointError:
        raise
    except Exception as error:  # the readers raise a dozen types for damaged files
        if (name := _foreign_class(path, error)) is not None:
            raise CheckpointError(
                f"checkpoint {path} is refused: it is a pickle of Python objects ({name}), and unpickling would run "
                "code from the file. Where you trust it, load it with its own code and save only the tensors: "
                "torch.save(model.state_dict(), 'state_dict.pt')"
            ) from None
        raise CheckpointError(
            f"checkpoint {path} cannot be read: it is truncated, or not a PyTorch or safetensors file"
            f"{_detail(error)}; copy or download it again"
        ) from None


def _read_file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if is_torchscript_archive(path):
        return read_tensors(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _detail(error: Exception) -> str:
    """The reader's first sentence, but not torch's advice to unpickle without looking."""
    sentence = str(error).strip().partition("\n")[0].partition(". ")[0]
    is_helpful = isinstance(error, RuntimeError) or type(error).__module__.startswith("safetensors")
    return f" ({sentence})" if is_helpful and sentence else ""


def _foreign_class(path: Path, error: Exception) -> str | None:
    """The class a refused pickle wanted, from torch's own message; None when the file is no pickle at all."""
    text = str(error)
    match = re.search(r"GLOBAL (\S+)", text) or re.search(r"Unsupported (?:class|global):? ([^\W\d]\S*)", text)
    if match:
        return match.group(1).strip("`'\"")
    with path.open("rb") as file:
        is_pickle = file.read(1) == _PICKLE
    return "an object of a class of its own" if is_pickle and "Unsupported" in text else None


def _unwrap(path: Path, loaded: Any) -> dict[str, torch.Tensor]:
    """The innermost dict of tensors; epoch counters, optimizer states and the like are left."""
    if (tensors := _innermost_tensors(loaded, _MAX_NESTING)) is not None:
        return tensors
    found = ", ".join(map(str, list(loaded)[:_NAMED_KEYS])) if isinstance(loaded, Mapping) else type(loaded).__name__
    raise CheckpointError(
        f"checkpoint {path} holds no state dict (found: {found or 'nothing'}); "
        "save one with torch.save(model.state_dict(), ...)"
    )


def _innermost_tensors(loaded: Any, depth: int) -> dict[str, torch.Tensor] | None:
    if not isinstance(loaded, Mapping) or depth == 0:
        return None
    for key in _WRAPPERS:
        if (inner := _innermost_tensors(loaded.get(key), depth - 1)) is not None:
            return inner
    return {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)} or None


def _shared_prefix(expected: Mapping[str, torch.Tensor]) -> str:
    """What ``_strip_prefixes`` would take from a network whose only child is called model, net, ..."""
    key = next(iter(expected), "")
    return key.removesuffix(next(iter(_strip_prefixes(dict(expected))), ""))


def _strip_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    while True:
        prefix = next((p for p in _PREFIXES if state and all(key.startswith(p) for key in state)), None)
        if prefix is None:
            return state
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}


def _floats(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def _with_duplicates(checkpoint: Checkpoint, duplicates: Mapping[str, str]) -> dict[str, torch.Tensor]:
    state = dict(checkpoint.state)
    for copy, first in duplicates.items():
        for key in [key for key in checkpoint.state if key.startswith(first)]:
            other = copy + key.removeprefix(first)
            if other in state and not torch.equal(state[other], state[key]):
                raise CheckpointError(
                    f"checkpoint {checkpoint.file}: {other} and {key} should be one tensor but differ: it is damaged"
                )
            state[other] = state[key]
    return state


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    rest = len(names) - _NAMED_KEYS
    return ", ".join(names[:_NAMED_KEYS]) + (f" and {rest} more" if rest > 0 else "")


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
