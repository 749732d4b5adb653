"""What a result depends on, as text: the tools and the machine, a network, a graph, pictures.

Where something cannot be named with certainty the answer is None, and the result is made anew.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import platform
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from mobile_matting_export.images import list_pictures, sample_pictures
from mobile_matting_export.network import LoadedNetwork

_PACKAGE = Path(__file__).resolve().parent
_KNOWN_CODE = ("torch.", "mobile_matting_export.")
# what nn.Module keeps in every instance; parameters and buffers are hashed, children visited
_MODULE_STATE = frozenset(vars(nn.Module()))
_HOOKS = tuple(name for name in sorted(_MODULE_STATE) if name.endswith("_hooks"))


def digest(*parts: str) -> str:
    """Hexadecimal sha256 of texts, each with its length: no two lists of texts give one digest."""
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


@functools.cache
def environment() -> str:
    """Our code, every installed distribution with its version, Python, and the processor.

    Taken once for a process. The processor counts because runtimes choose their kernels by it.
    """
    files = [path for path in sorted(_PACKAGE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    own = [(path.relative_to(_PACKAGE).as_posix(), _sha256(path)) for path in files]
    places = sorted({place for place in sys.path if Path(place).is_dir()})
    installed = sorted({found.name for place in places for found in Path(place).glob("*.dist-info")})
    return digest(repr(own), repr(installed), sys.version, sys.platform, platform.machine(), _processor())


def network_state(network: LoadedNetwork) -> str | None:
    """The network without capturing it: classes, settings and tensors of all its modules, and its input contract.

    None where a class is of neither torch nor this package, so that its code may be anything, or where
    a module has hooks or settings whose value has no text of its own: then only the captured graph tells.
    """
    described: list[Any] = []
    for path, module in network.module.named_modules():
        kind, own = type(module), vars(module)
        settings = {name: _plain(value) for name, value in own.items() if name not in _MODULE_STATE}
        if (
            not f"{kind.__module__}.".startswith(_KNOWN_CODE)
            or None in settings.values()
            or any(own.get(name) for name in _HOOKS)
        ):
            return None
        described.append((path, kind.__module__, kind.__qualname__, module.training, sorted(settings.items())))
    return digest(repr(described), contract_state(network))


def contract_state(network: LoadedNetwork) -> str:
    """What a manifest says of a network beside its graph: name, source, checkpoint, tensors, inputs and head."""
    spec = network.spec
    own = {one.name: getattr(network, one.name) for one in fields(network) if one.name not in ("spec", "module")}
    if network.checkpoint is not None:  # its tensors are those of the module
        own["checkpoint"] = (network.checkpoint.file, network.checkpoint.sha256)
    return digest(
        repr(own), spec.name, repr(spec.image), repr(spec.state), repr(spec.head), _tensors_of(network.module)
    )


def graph_state(graph_module: fx.GraphModule) -> str:
    """A captured or rewritten graph: its code and its tensors."""
    return digest(graph_module.graph.python_code("self").src, _tensors_of(graph_module))


def pictures_state(images: Path | None) -> str:
    """The pictures of a folder, or the bundled ones: names and bytes.

    Raises:
        UsageError: the folder is missing or holds no picture.
    """
    chosen = sample_pictures() if images is None else list_pictures(images)
    return digest(repr([(path.name, _sha256(path)) for path in chosen]), "bundled" if images is None else "given")


def _plain(value: Any) -> str | None:
    """The text of a setting, None for what has no text that says all."""
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.Size, enum.Enum)):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, (tuple, list)):
        inner = [_plain(item) for item in value]
        return None if None in inner else f"{type(value).__name__}:{inner}"
    if isinstance(value, Mapping):
        return _plain([type(value).__name__, *value.items()])
    if is_dataclass(value) and not isinstance(value, type):
        return _plain([type(value).__name__, *((one.name, getattr(value, one.name)) for one in fields(value))])
    # a function or class of code that environment() covers
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if name and module and "<" not in name and f"{module}.".startswith(_KNOWN_CODE):
        return f"{module}.{name}"
    return None


def _tensors_of(module: nn.Module) -> str:
    """Parameters and buffers, also those that a state dict leaves out."""
    tensors: dict[str, torch.Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    sums = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sums.update(f"{name} {tuple(tensor.shape)} {tensor.stride()} {tensor.dtype}\n".encode())
        sums.update(tensor.detach().contiguous().numpy().tobytes())
    return sums.hexdigest()


def _processor() -> str:
    """Model and features of the processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
