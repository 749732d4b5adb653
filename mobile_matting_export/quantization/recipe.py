"""The recipe of an int8 artifact, as TOML: what was chosen, to keep under version control, edit, and replay."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import tomli_w

from mobile_matting_export.errors import UsageError
from mobile_matting_export.quantization.io_kind import IO_KINDS, IoKind
from mobile_matting_export.quantization.layer import QuantizableLayer
from mobile_matting_export.quantization.ranges import METHODS, Method
from mobile_matting_export.quantization.rounding import ROUNDINGS, Rounding

SCHEMA = "mmexport.recipe/1"

_KEYS = (
    "schema",
    "network",
    "target",
    "size",
    "arithmetic",
    "ranges",
    "equalize",
    "correct_biases",
    "rounding",
    "tune_steps",
    "io",
    "calibration_sha256",
    "float_files_sha256",
    "quality_budget",
    "keep_float",
)
_WORDS: dict[object, str] = {str: "a text", list: "a list", bool: "true or false"}

_HEAD = """\
# How this int8 artifact was made. Replay it with --recipe and the same --calibration pictures: same bytes.
# keep_float tables name what stays float: a layer by the file's own name, or a module with everything inside it:
#   [[keep_float]]
#   module = "net.head"
"""


@dataclass(frozen=True)
class Recipe:
    """Choices that make an int8 file of a network's fp32 file, together with the calibration pictures.

    ``arithmetic`` is one of the format's ways to compute in int8. ``keep_float`` holds names of layers, or paths of
    PyTorch modules. ``equalize`` is the strength, 0 to 1, by which channels were given like ranges before, see
    ``rewrites/equalize_channels.py``; ``correct_biases`` says whether each layer's mean error was taken out of its
    bias. ``calibration`` is the sha256 of the pictures' tensors, ``float_files`` that of the fp32 files, ``budget``
    what the search held. ``tune_steps``: how many steps the weights were tuned, 0 for not; see ``tune_weights.py``.
    ``io`` is the type of image and alpha, ``rounding`` how weights became whole numbers where tuning did not say it.
    """

    network: str
    target: str
    size: tuple[int, int]
    arithmetic: str
    method: Method
    equalize: float
    correct_biases: bool
    keep_float: tuple[str, ...]
    calibration: str
    float_files: str
    budget: str
    tune_steps: int = 0
    io: IoKind = "float"
    rounding: Rounding = "nearest"


def write_recipe(recipe: Recipe, layers: Sequence[QuantizableLayer], path: Path) -> None:
    """Write the recipe; every layer kept in float by its name, with module and type for who reads it."""
    known = {layer.name: layer for layer in layers}
    described = [
        {"layer": name, "module": known[name].module, "kind": known[name].kind} for name in sorted(recipe.keep_float)
    ]
    values = {
        "schema": SCHEMA,
        "network": recipe.network,
        "target": recipe.target,
        "size": list(recipe.size),
        "arithmetic": recipe.arithmetic,
        "ranges": recipe.method,
        "equalize": recipe.equalize,
        "correct_biases": recipe.correct_biases,
        "rounding": recipe.rounding,
        "tune_steps": recipe.tune_steps,
        "io": recipe.io,
        "calibration_sha256": recipe.calibration,
        "float_files_sha256": recipe.float_files,
        "quality_budget": recipe.budget,
    }
    # tables, one below the other: a person adds another without touching a bracket
    tables = "".join(f"\n[[keep_float]]\n{tomli_w.dumps(entry)}" for entry in described)
    path.write_text(_HEAD + tomli_w.dumps(values) + tables, encoding="utf-8")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe, ours or edited.

    Raises:
        UsageError: the file is missing, no TOML, of another schema, or an entry is missing or of the wrong kind.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"cannot read the recipe {path}: {why}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the recipe {path} is not valid TOML: {error}") from None
    if values.get("schema") != SCHEMA:
        raise UsageError(
            f"{path} is no recipe of this version: schema must be {SCHEMA!r}, it is {values.get('schema')!r}"
        )
    _refuse_unknown(path, values, _KEYS, "")
    size = _entry(path, values, "size", list)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise UsageError(f"size in the recipe {path} must be [height, width], it is {size}")
    method = _entry(path, values, "ranges", str)
    if method not in METHODS:
        raise UsageError(f"ranges in the recipe {path} must be one of {', '.join(METHODS)}, it is {method!r}")
    equalize = float(_entry(path, values, "equalize", (int, float)))
    if not 0 <= equalize <= 1:
        raise UsageError(f"equalize in the recipe {path} must be from 0 to 1, it is {equalize:g}")
    steps = _entry(path, {"tune_steps": 0} | values, "tune_steps", int)
    if steps < 0:
        raise UsageError(f"tune_steps in the recipe {path} must be 0 or more, it is {steps}")
    io = _entry(path, {"io": "float"} | values, "io", str)
    if io not in IO_KINDS:
        raise UsageError(f"io in the recipe {path} must be one of {', '.join(IO_KINDS)}, it is {io!r}")
    rounding = _entry(path, {"rounding": "nearest"} | values, "rounding", str)
    if rounding not in ROUNDINGS:
        raise UsageError(f"rounding in the recipe {path} must be one of {', '.join(ROUNDINGS)}, it is {rounding!r}")
    entries = values.get("keep_float", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"keep_float in the recipe {path} must be tables: [[keep_float]] with layer = or module =")
    for entry in entries:
        _refuse_unknown(path, entry, ("layer", "module", "kind"), "keep_float: ")
    names = [entry.get("layer") or entry.get("module") for entry in entries]
    if not all(isinstance(name, str) for name in names):
        raise UsageError(f"an entry of keep_float in the recipe {path} has neither layer nor module")
    return Recipe(
        _entry(path, values, "network", str),
        _entry(path, values, "target", str),
        (size[0], size[1]),
        _entry(path, values, "arithmetic", str),
        cast(Method, method),
        equalize,
        _entry(path, values, "correct_biases", bool),
        tuple(cast(list[str], names)),
        _entry(path, values, "calibration_sha256", str),
        _entry(path, values, "float_files_sha256", str),
        _entry(path, values, "quality_budget", str),
        steps,
        cast(IoKind, io),
        cast(Rounding, rounding),
    )


def find_layers(names: Sequence[str], layers: Sequence[QuantizableLayer], source: object) -> frozenset[str]:
    """Names of layers that ``names`` mean: a layer itself, or all within a module of that path.

    Raises:
        UsageError: one means nothing; names it.
    """
    found: set[str] = set()
    for name in names:
        meant = {
            layer.name
            for layer in layers
            if name in (layer.name, layer.module) or f"{layer.module}.".startswith(f"{name}.")
        }
        if not meant:
            raise UsageError(
                f"{source} keeps {name!r} in float, but no layer or module of this file that can be int8 is called so; "
                f"it has {_nearest(name, layers)}"
            )
        found |= meant
    return frozenset(found)


def _refuse_unknown(path: Path, values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"the recipe {path} has the unknown entry {where}{key}: {hint}Known are {', '.join(known)}"
            )


def _nearest(name: str, layers: Sequence[QuantizableLayer]) -> str:
    """Names most like one, else the first of all."""
    paths = [layer.module.split(".") for layer in layers]
    modules = [".".join(path[:depth]) for path in paths for depth in range(1, len(path) + 1)]
    known = list(dict.fromkeys(filter(None, [*(layer.name for layer in layers), *modules])))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
    return f"{', '.join(near)} and others" if near else "none"


def _entry(path: Path, values: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    value = values.get(key)
    if not isinstance(value, kind):
        found = "missing" if key not in values else repr(value)
        wanted = _WORDS.get(kind, "a number")
        raise UsageError(f"the recipe {path} needs {key}, {wanted}; it is {found}")
    return value
