"""Put trained portrait-matting networks on phones: verified TFLite, ncnn and ONNX artifacts.

The Python API is what the commands call:

    from mobile_matting_export import Job, convert_network, find_target, load_network
    artifacts = convert_network(load_network("mmnet"), Job((find_target("tflite-gpu"),), Path("build")))

Nothing is imported before it is used: importing this package costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_network": "network",
    "find_target": "targets",
    "TARGETS": "targets",
    "Job": "convert",
    "convert_network": "convert",
    "read_artifact": "artifact",
    "verify_artifact": "verify",
    "MmexportError": "errors",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
