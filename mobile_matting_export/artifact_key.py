"""The key of an artifact in the cache: everything that decides its bytes and its verdict.

Same key, same files, same pictures, same runtime, same machine: verifying again would give the same numbers, so what
is taken from the cache is what was verified. A miss of the limits is never kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobile_matting_export.fingerprint import digest, environment, pictures_state
from mobile_matting_export.list_vulkan_drivers import list_vulkan_drivers
from mobile_matting_export.parity import Case
from mobile_matting_export.targets import TARGETS, Target


def artifact_key(
    target: Target, precision: str, images: Path | None, options: Mapping[str, Any], network: str
) -> str | None:
    """The key, or None where something that decides cannot be named: a row of one's own, drivers not known.

    Args:
        target: a row of ``TARGETS``; ``environment`` covers what those say.
        precision: of the files.
        images: folder of verification pictures, None for the bundled ones.
        options: what else the user chose; a path counts by what lies there.
        network: the state of the network, as text.

    Raises:
        UsageError: a folder of pictures is missing or holds none.
    """
    if target not in TARGETS:
        return None
    drivers: Sequence[str] | None = ()
    if target.format.name == "ncnn" and target.accelerator == "gpu":
        drivers = list_vulkan_drivers()
        if drivers is None:
            return None
    chosen = {
        name: pictures_state(value) if isinstance(value, Path) else repr(value) for name, value in options.items()
    }
    described = (target.name, precision, network, pictures_state(images), repr(chosen), repr(drivers))
    return digest("artifact", environment(), *described)


def references_state(cases: Sequence[Case]) -> str:
    """What a network makes of the pictures: this, with its graph, tells a network whose code may be anything."""
    return digest(*(f"{case.name} {np.ascontiguousarray(case.alpha).tobytes().hex()}" for case in cases))
