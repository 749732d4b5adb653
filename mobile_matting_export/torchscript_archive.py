"""Read the tensors of a TorchScript archive without running the program in it.

An archive is a zip: ``data.pkl`` pickles the module tree, ``data/N`` hold the numbers, ``code/`` holds the
program as text. ``torch.jit.load`` compiles that program and calls its ``__setstate__`` methods; here
the tree is unpickled into objects that remember their attributes and nothing else, and of the code only
the lines are read that say which attributes of a class are parameters and buffers.
"""

from __future__ import annotations

import ast
import io
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mobile_matting_export.errors import CheckpointError

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# what an archive may name besides tensors and modules; nothing of it is a tensor of the state dict
_LEFT_OUT = {
    ("torch", "device"),
    ("torch", "per_tensor_affine"),
    ("torch", "per_channel_affine"),
    ("torch", "QInt8Storage"),
    ("torch", "QUInt8Storage"),
    ("torch", "QInt32Storage"),
    ("torch._utils", "_rebuild_qtensor"),
    ("torch.jit._pickle", "build_boollist"),
    ("torch.jit._pickle", "build_doublelist"),
    ("torch.jit._pickle", "build_intlist"),
    ("torch.jit._pickle", "build_tensorlist"),
    ("torch.jit._pickle", "restore_type_tag"),
    ("builtins", "complex"),
}
_CLASS = re.compile(r"^class (\w+)\((\w*)\):\n(.*?)(?=^class |\Z)", re.MULTILINE | re.DOTALL)
_NAMES = r"^  {}\s*=\s*(\[.*?\])"
# a pickle may hold itself: no network nests its modules deeper than this
_MAX_NESTING = 64


def is_torchscript_archive(path: Path) -> bool:
    """Whether the file is a zip with ``constants.pkl``, which ``torch.save`` does not write."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers by their dotted names, on the CPU; shared tensors share memory.

    What ``torch.jit.load(path).state_dict()`` would return, but of modules with a ``__setstate__`` of
    their own (quantized layers, say): their tensors come into being by running code, and are left out.

    Raises:
        CheckpointError: the archive is truncated or damaged, or names something that is neither a
            tensor nor a module, which unpickling would call.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = _Records(path, archive)
            tree = _TreeUnpickler(records).load()
            tensors = dict(_walk(tree, records.classes(), "", _MAX_NESTING))
    except CheckpointError:
        raise
    except Exception as error:  # zip and pickle readers raise a dozen types for damaged files
        raise CheckpointError(
            f"checkpoint {path} cannot be read: the TorchScript archive is truncated or damaged "
            f"({type(error).__name__}); copy or download it again"
        ) from error
    return tensors


@dataclass(frozen=True)
class _Class:
    """What the code says of a class: the attributes that are tensors of the state dict."""

    is_module: bool
    restores_itself: bool
    tensors: tuple[str, ...]


class _Object:
    """Stands for an instance of any class of the archive: remembers its attributes, can do nothing."""

    def __new__(cls, *_: Any) -> _Object:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Records:
    """The archive's files, under the one folder that it has."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        roots = [name.removesuffix("data.pkl") for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(roots) != 1:
            raise CheckpointError(f"checkpoint {path} is no TorchScript archive: it has {len(roots)} files data.pkl")
        self._root = roots[0]
        if f"{self._root}byteorder" in archive.namelist() and self.read("byteorder").decode() != sys.byteorder:
            raise CheckpointError(
                f"checkpoint {path} was saved on a machine of the other byte order; save it on this one"
            )

    def read(self, name: str) -> bytes:
        return self._archive.read(self._root + name)

    def classes(self) -> dict[str, _Class]:
        """Qualified name -> class, of all modules in ``code/``."""
        found = {}
        for name in self._archive.namelist():
            inner = name.removeprefix(f"{self._root}code/")
            if inner != name and inner.endswith(".py"):
                module = inner.removesuffix(".py").replace("/", ".")
                for class_name, base, body in _CLASS.findall(self._archive.read(name).decode()):
                    tensors = (*_names(body, "__parameters__"), *_names(body, "__buffers__"))
                    described = _Class(base == "Module", "  def __setstate__(" in body, tensors)
                    found[f"{module}.{class_name}"] = described
        return found


class _TreeUnpickler(pickle.Unpickler):
    """Builds tensors and inert objects; whatever else the pickle names is refused before it is used."""

    def __init__(self, records: _Records) -> None:
        super().__init__(io.BytesIO(records.read("data.pkl")))
        self._records = records
        self._storages: dict[str, torch.Tensor] = {}
        self._classes: dict[str, type[_Object]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Tensors, containers and inert objects."""
        if module == "__torch__" or module.startswith("__torch__."):
            qualified = f"{module}.{name}"
            return self._classes.setdefault(qualified, type(qualified, (_Object,), {}))
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        # bound methods, unlike functions, have no attribute that a pickle could change
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return self._rebuild_parameter
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _LEFT_OUT:
            return self._leave_out
        raise CheckpointError(
            f"checkpoint {self._records.path} is refused: its data names {module}.{name}, which is neither a tensor "
            "nor a module, and unpickling would run code from the file. Where you trust it, load it with its own "
            "code and save only the tensors: torch.save(model.state_dict(), 'state_dict.pt')"
        )

    def persistent_load(self, pid: Any) -> torch.Tensor | None:
        """The numbers of a storage, flat; None for those of quantized tensors."""
        _, dtype, key, _, count = pid
        if not isinstance(dtype, torch.dtype):
            return None
        if key not in self._storages:
            content = bytearray(self._records.read(f"data/{key}"))
            flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            if len(flat) != count:
                raise ValueError(f"storage {key} has {len(flat)} numbers, not {count}")
            self._storages[key] = flat
        return self._storages[key]

    def _rebuild_tensor(self, flat: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
        # as_strided refuses what reaches beyond the storage, where torch's own function would enlarge it
        return flat.as_strided(size, stride, offset)

    def _rebuild_parameter(self, tensor: Any, *_: Any) -> Any:
        return tensor

    def _leave_out(self, *_: Any) -> None:
        return None


def _names(body: str, attribute: str) -> list[str]:
    match = re.search(_NAMES.format(attribute), body, re.MULTILINE | re.DOTALL)
    return [str(name) for name in ast.literal_eval(match.group(1))] if match else []


def _walk(node: Any, classes: dict[str, _Class], prefix: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    """As ``nn.Module.state_dict``: a module's own tensors first, then those of its children."""
    if depth == 0:
        raise RecursionError("the modules nest without end")
    described = classes.get(type(node).__name__)
    if described is None or not described.is_module or described.restores_itself:
        return
    for name in described.tensors:
        value = node.attributes.get(name)
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
    for name, child in node.attributes.items():
        if isinstance(child, _Object):
            yield from _walk(child, classes, f"{prefix}{name}.", depth - 1)
