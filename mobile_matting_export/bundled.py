"""Find the trained models that travel with the package (or lie in models/ of a checkout)."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def models_folder() -> Path:
    """``models/`` of the checkout, or its copy inside an installed wheel."""
    # beside an installed package, ``models`` would be a stranger's: matting repositories carry one
    in_wheel = _PACKAGE / "bundled_models"
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / "models"


def bundled_weights(network: str) -> Path | None:
    """The shipped ``.safetensors`` of a network, or None."""
    return next(iter(sorted((models_folder() / network).glob("*.safetensors"))), None)
