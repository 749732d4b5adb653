"""What the user wants of an int8 artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobile_matting_export.quantization.budget import Budget
from mobile_matting_export.quantization.io_kind import IoKind
from mobile_matting_export.quantization.ranges import Method
from mobile_matting_export.quantization.recipe import Recipe


@dataclass(frozen=True)
class Int8Wish:
    """What the user wants of an int8 artifact. ``method`` and ``recipe``: None leaves the choice to the budget.

    ``tune_minutes``: None leaves the weights as they are. ``io`` is the type of image and alpha where no recipe says
    it.
    """

    calibration: Path | None
    budget: Budget
    method: Method | None = None
    recipe: Recipe | None = None
    tune_minutes: float | None = None
    io: IoKind = "float"

    @property
    def wanted_io(self) -> IoKind:
        """The recipe's where there is one."""
        return self.io if self.recipe is None else self.recipe.io
