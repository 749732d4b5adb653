"""How weights become whole numbers."""

from __future__ import annotations

from typing import Literal, get_args

Rounding = Literal["nearest", "error_feedback"]
"""``nearest``: each weight by itself; ``error_feedback``: see ``round_by_error_feedback.py``."""

ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
"""The default first."""
