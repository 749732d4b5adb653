"""Which Vulkan drivers this system has: a verdict on a GPU holds for them only."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# the loader's own search path on Linux, system before user
_FOLDERS = ("/etc/vulkan", "/usr/local/share/vulkan", "/usr/share/vulkan")
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_MODULES = ("/proc/driver/nvidia/version", "/sys/module/amdgpu/version", "/proc/sys/kernel/osrelease")


def list_vulkan_drivers() -> tuple[str, ...] | None:
    """A line for each file and variable that decides which devices are found and what they run.

    Manifests by content, libraries by size and time, device nodes by name, the kernel's half by its version.
    None on systems where that is not known: there a device has to be asked each time.
    """
    if not sys.platform.startswith("linux"):
        return None
    lines = [
        f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(("VK_", "MESA_", "LP_"))
    ]
    homes = [os.environ.get("XDG_DATA_HOME", str(Path.home() / ".local/share")) + "/vulkan"]
    named = os.environ.get("VK_ICD_FILENAMES", "") + ":" + os.environ.get("VK_DRIVER_FILES", "")
    manifests = [Path(name) for name in named.split(":") if name]
    for folder in (*_FOLDERS, *homes):
        manifests += sorted(Path(folder).glob("*/*.json"))
    libraries = {"libvulkan.so.1"}
    for manifest in manifests:
        try:
            text = manifest.read_text(encoding="utf-8")
            library = json.loads(text).get("ICD", {}).get("library_path")
        except (OSError, ValueError, AttributeError):
            lines.append(f"{manifest}: not readable")
            continue
        lines.append(f"{manifest}: {text}")
        if library:
            libraries.add(str(library))
    for library in sorted(libraries):
        lines += [_seen(place) for place in _places(library)]
    lines += [f"{place}: {place.read_text().strip()}" for place in map(Path, _MODULES) if place.is_file()]
    lines += [str(place) for place in sorted((*Path("/dev/dri").glob("*"), *Path("/dev").glob("nvidia*")))]
    return tuple(lines)


def _places(library: str) -> list[Path]:
    """Where a library that a manifest names may lie."""
    if "/" in library:
        return [Path(library)]
    return [
        place for folder in _LIBRARIES for place in (Path(folder) / library, *sorted(Path(folder).glob(f"*/{library}")))
    ]


def _seen(place: Path) -> str:
    try:
        found = place.resolve(strict=True).stat()
    except OSError:
        return f"{place}: absent"
    return f"{place}: {found.st_size} bytes, {found.st_mtime_ns}"
