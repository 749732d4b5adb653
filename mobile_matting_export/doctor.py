"""Examine this machine: what mmexport needs, what is there, and how to get what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, Protocol

from mobile_matting_export.bundled import bundled_weights, models_folder

_DISTRIBUTION = "mmexport"
_DEFAULT_NETWORK = "mmnet"
_OLDEST_PYTHON = (3, 11)
_ADB_TIMEOUT_S = 5
# a software Vulkan device compiles itself when it is first asked
_VULKAN_TIMEOUT_S = 30
_SCARCE_SPACE = 1_000_000_000
# beside the package in a checkout, absent where the package is installed
_CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"

_COUNT_VULKAN_DEVICES = """
import ncnn
for index in range(ncnn.get_gpu_count()):
    print("device:", ncnn.get_gpu_info(index).device_name())
print("done")
"""


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    ``missing``: not there; ``warning``: there, but not as it should be, or only wanted for a part.
    ``remedy`` is empty when all is well.
    """

    name: str
    status: Literal["ok", "missing", "warning"]
    found: str
    remedy: str = ""


class SeenPhone(Protocol):
    """A phone of adb's listing. ``state``: device (ready), unauthorized, offline ...; ``model`` may be empty."""

    @property
    def serial(self) -> str:
        """As adb names it."""
        ...

    @property
    def state(self) -> str:
        """One word, or the beginning of adb's sentence."""
        ...

    @property
    def model(self) -> str:
        """Its maker's name for it."""
        ...


ParseDevices = Callable[[str], Sequence[SeenPhone]]
"""Text of ``adb devices -l`` -> the phones in it."""


def examine(parse_devices: ParseDevices, output: Path = Path("build")) -> list[Finding]:
    """Look at Python, distributions, Vulkan, adb, weights and the output folder.

    Nothing heavy is imported; what may crash or hang runs in a child process with a time limit.
    ``parse_devices`` is handed in by whoever knows adb's listings.
    """
    return [
        _examine_python(),
        *_examine_distributions(),
        _examine_vulkan(),
        _examine_adb(parse_devices),
        _examine_weights(),
        _examine_output(output),
    ]


def read_pins(constraints: str) -> dict[str, str]:
    """Normalized distribution name -> version, of the ``name==version`` lines of a constraints file."""
    pins = re.findall(r"^\s*([A-Za-z0-9._-]+)\s*==\s*([^\s;#]+)", constraints, flags=re.MULTILINE)
    return {_normalize(name): version for name, version in pins}


def _examine_python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return Finding("Python", "warning", found, "install Python 3.11 or newer")
    return Finding("Python", "ok", found)


def _examine_distributions() -> list[Finding]:
    try:
        requirements = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return [Finding(_DISTRIBUTION, "missing", "not installed", "in the checkout: python -m pip install -e .")]
    pins = read_pins(_CONSTRAINTS.read_text(encoding="utf-8")) if _CONSTRAINTS.is_file() else {}
    needed = [_required_name(line) for line in requirements if "extra ==" not in line]
    findings = [_examine_distribution(name, pins.get(_normalize(name))) for name in needed]
    return [*findings, _examine_extra(requirements, "tensorflow")]


def _examine_distribution(name: str, pin: str | None) -> Finding:
    install = f"python -m pip install '{name}=={pin}'" if pin else f"python -m pip install {name}"
    version = _installed_version(name)
    if version is None:
        return Finding(name, "missing", "not installed", install)
    # torch 2.13.0+cpu is release 2.13.0
    if pin is None or pin in (version, version.partition("+")[0]):
        return Finding(name, "ok", version)
    return Finding(name, "warning", f"{version}, tested with {pin}", install)


def _examine_extra(requirements: list[str], extra: str) -> Finding:
    lines = [line for line in requirements if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    names = [_required_name(line) for line in lines]
    absent = [name for name in names if _installed_version(name) is None]
    title = f"extra [{extra}]"
    if not absent:
        return Finding(title, "ok", ", ".join(f"{name} {_installed_version(name)}" for name in names))
    # the Makefile of a checkout has a verb of the extra's name
    install = f"make {extra}" if _CONSTRAINTS.is_file() else f"python -m pip install '{_DISTRIBUTION}[{extra}]'"
    remedy = f"only for --backend onnx2tf: {install}"
    return Finding(title, "missing", f"without {', '.join(absent)}", remedy)


def _examine_vulkan() -> Finding:
    title = "Vulkan device (ncnn)"
    remedy = "only to run ncnn-vulkan here: Debian packages mesa-vulkan-drivers libvulkan1 (a device in software)"
    try:
        # -P: a folder named ncnn where the command is called must not be taken for the package
        child = subprocess.run(
            [sys.executable, "-P", "-c", _COUNT_VULKAN_DEVICES],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VULKAN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(title, "warning", f"no answer within {_VULKAN_TIMEOUT_S} s", "update the GPU's driver")
    names = re.findall(r"^device: (.*)$", child.stdout, flags=re.MULTILINE)
    if child.returncode != 0 or not child.stdout.endswith("done\n"):
        if _installed_version("ncnn") is None:
            return Finding(title, "missing", "ncnn is not installed", "python -m pip install ncnn")
        last = (child.stderr.strip().splitlines() or ["nothing"])[-1]
        found = f"asking ended with status {child.returncode} (it printed: {last})"
        return Finding(title, "warning", found, "update the GPU's driver")
    return Finding(title, "ok", ", ".join(names)) if names else Finding(title, "missing", "none", remedy)


def _examine_adb(parse_devices: ParseDevices) -> Finding:
    title = "Android phones (adb)"
    adb = shutil.which("adb")
    if adb is None:
        return Finding(title, "missing", "adb is not on PATH", "only to bench on phones: Debian package adb")
    try:
        # adb may fail with status 0 and hang for ever: only its listing counts
        child = subprocess.run(
            [adb, "devices", "-l"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=_ADB_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"{adb} did not answer within {_ADB_TIMEOUT_S} s"
        return Finding(title, "warning", found, "adb kill-server, then plug the phone in again")
    except OSError as error:
        return Finding(title, "warning", f"{adb} cannot be run: {error.strerror}", "install Debian package adb")
    if "List of devices attached" not in child.stdout:
        last = ((child.stderr + child.stdout).strip().splitlines() or ["nothing"])[-1]
        return Finding(
            title, "warning", f"{adb} lists no devices (it printed: {last})", "adb kill-server, then try again"
        )
    return _judge_devices(title, parse_devices(child.stdout))


def _judge_devices(title: str, devices: Sequence[SeenPhone]) -> Finding:
    if not devices:
        return Finding(title, "missing", "adb sees none", "connect a phone with USB debugging switched on")
    found = ", ".join(f"{phone.model} {phone.serial} ({phone.state})".strip() for phone in devices)
    states = {phone.state for phone in devices}
    if "device" in states:
        return Finding(title, "ok", found)
    if "unauthorized" in states:
        return Finding(title, "warning", found, "accept the question for USB debugging on the phone's screen")
    return Finding(title, "warning", found, "unlock the phone and plug it in again; on Linux see adb's udev rules")


def _examine_weights() -> Finding:
    folder = models_folder()
    networks = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    bundled = [name for name in networks if bundled_weights(name) is not None]
    found = ", ".join(bundled) or "none"
    if _DEFAULT_NETWORK in bundled:
        return Finding("bundled weights", "ok", found)
    return Finding(
        "bundled weights", "missing", found, f"{folder} lacks {_DEFAULT_NETWORK}: install {_DISTRIBUTION} again"
    )


def _examine_output(output: Path) -> Finding:
    title = "output folder"
    place = output.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    remedy = "choose another --output"
    if not place.is_dir():
        return Finding(title, "warning", f"{place} is a file", remedy)
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding(title, "warning", f"{place} is not writable: {error.strerror}", remedy)
    found = f"{os.fspath(output)}, {free / 1e9:.1f} GB free"
    if free < _SCARCE_SPACE:
        return Finding(title, "warning", found, f"free some space, or {remedy}")
    return Finding(title, "ok", found)


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _required_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return match.group()


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
