"""Read the flags of ``convert`` that are about int8 together: which go with which precision and with each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobile_matting_export.errors import UsageError

if TYPE_CHECKING:
    from mobile_matting_export.int8_wish import Int8Wish
    from mobile_matting_export.quantization.io_kind import IoKind
    from mobile_matting_export.quantization.ranges import Method


def read_int8_wish(
    precision: str | None,
    calibration: str | None,
    budget: str | None,
    ranges: Method | None,
    recipe: str | None,
    tune: float | None = None,
    io: IoKind | None = None,
) -> Int8Wish:
    """What the flags ask for.

    Raises:
        UsageError: a flag that needs ``--precision int8`` without it, a recipe beside what it decides itself, or an
            unreadable budget or recipe.
    """
    from mobile_matting_export.int8_wish import Int8Wish
    from mobile_matting_export.quantization.budget import DEFAULT, parse_budget
    from mobile_matting_export.quantization.recipe import read_recipe

    given = {
        "--calibration": calibration,
        "--quality-budget": budget,
        "--ranges": ranges,
        "--tune": tune,
        "--recipe": recipe,
        "--io": io,
    }
    for flag, value in given.items():
        if value is not None and precision != "int8":
            raise UsageError(f"{flag} is for --precision int8: other precisions need none")
    if recipe is not None and ranges is not None:
        raise UsageError("--recipe and --ranges contradict each other: the recipe says which ranges; give one of them")
    if recipe is not None and tune is not None:
        raise UsageError(
            "--recipe and --tune contradict each other: the recipe says how many steps the weights are tuned "
            "(tune_steps); give one of them"
        )
    if recipe is not None and io is not None:
        raise UsageError(
            "--recipe and --io contradict each other: the recipe says what the file takes and gives (io); "
            "give one of them"
        )
    replayed = None if recipe is None else read_recipe(Path(recipe))
    usual = DEFAULT if replayed is None else replayed.budget
    return Int8Wish(
        None if calibration is None else Path(calibration),
        parse_budget(usual if budget is None else budget),
        ranges,
        replayed,
        tune,
        io or "float",
    )
