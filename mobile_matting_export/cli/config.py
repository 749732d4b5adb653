"""Defaults from ``mmexport.toml`` or ``[tool.mmexport]`` of pyproject.toml in the working folder.

Keys are the long flags of ``convert`` (``target`` may be a list), and a ``[network]`` table: name,
checkpoint, size, mean, scale, color, resize, fill, head,
foreground. What the table says holds for the network it
names: another one on the command line keeps its own. Flags win over ``MMEXPORT_*`` variables, those
over the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from mobile_matting_export.errors import UsageError

_CONVERT_KEYS = {
    "network",
    "target",
    "checkpoint",
    "precision",
    "size",
    "images",
    "output",
    "max_error",
    "max_mad",
    "backend",
    "input",
    "slim",
    "calibration",
    "cache",
    "allow_fallback",
}
DESCRIPTION_KEYS = ("checkpoint", "size", "mean", "scale", "color", "resize", "fill", "head", "foreground")
"""What a configuration says of the network it names, and of no other."""

_NETWORK_KEYS = {"name", *DESCRIPTION_KEYS}


def read_config(folder: Path | None = None) -> dict[str, Any]:
    """The file's values as click's default map: command -> parameter -> value.

    Raises:
        UsageError: no TOML, or a key that does not exist.
    """
    here = folder or Path.cwd()
    own, project = here / "mmexport.toml", here / "pyproject.toml"
    if own.is_file():
        path, table = own, _read(own)
    elif project.is_file():
        path, table = project, _read(project).get("tool", {}).get("mmexport", {})
    else:
        return {}
    if not isinstance(table, dict):
        raise UsageError(f"{path.name}: mmexport must be a table, not {type(table).__name__}")
    return {"convert": _convert_defaults(path, table)} if table else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from None


def _convert_defaults(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    values = {key.replace("-", "_"): value for key, value in table.items()}
    _refuse_unknown(path, values, _CONVERT_KEYS, "")
    network = values.get("network")
    if isinstance(network, dict):
        _refuse_unknown(path, network, _NETWORK_KEYS, "network.")
        del values["network"]
        described = {("network" if key == "name" else key): value for key, value in network.items()}
        values = described | values
    if isinstance(values.get("target"), str):
        values["target"] = [values["target"]]
    if "input" in values:
        values["input_kind"] = values.pop("input")
    if "output" in values:
        values["output_folder"] = values.pop("output")
    return {key: _as_flag(value) for key, value in values.items()}


def _refuse_unknown(path: Path, table: dict[str, Any], known: set[str], prefix: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise UsageError(f"{path.name}: unknown key {prefix}{unknown[0]}; known keys: {', '.join(sorted(known))}")


def _as_flag(value: Any) -> Any:
    """Lists of numbers in the spelling of the flags (``--mean 1,2,3``; size 256x192)."""
    if isinstance(value, list) and value and all(isinstance(item, (int, float)) for item in value):
        return ",".join(map(str, value))
    return value
