"""Find the trained models that travel with the package (or lie in models/ of a checkout)."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def models_folder() -> Path:
    """``models/`` of the checkout, or its copy inside an installed wheel."""
    in_checkout = _PACKAGE.parent / "models"
    return in_checkout if in_checkout.is_dir() else _PACKAGE / "bundled_models"


def bundled_weights(network: str) -> Path | None:
    """The shipped ``.safetensors`` of a network, or None."""
    return next(iter(sorted((models_folder() / network).glob("*.safetensors"))), None)
