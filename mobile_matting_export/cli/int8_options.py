"""The options of ``convert`` that are about int8; which go together is read in ``read_int8_wish.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]

_OPTIONS = (
    click.option(
        "--calibration",
        envvar="MMEXPORT_CALIBRATION",
        help="int8: 32 to 128 pictures, as a folder, a list (.txt) or arrays (.npz); default: mostly drawn ones.",
    ),
    click.option(
        "--quality-budget",
        metavar="MEASURE=X,...",
        envvar="MMEXPORT_QUALITY_BUDGET",
        help="int8: how far mattes may be from the float ones; layers stay float until it holds. "
        "Default: mad_band=0.01.",
    ),
    click.option(
        "--ranges",
        type=click.Choice(["percentile", "minmax", "mse", "kl"]),
        envvar="MMEXPORT_RANGES",
        help="int8: how ranges are chosen; default: the best of three for this network.",
    ),
    click.option(
        "--tune",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MINUTES",
        envvar="MMEXPORT_TUNE",
        help="int8: train the weights so long, for each way to compute that is tried, towards the float mattes.",
    ),
    click.option("--recipe", envvar="MMEXPORT_RECIPE", help="int8: replay this recipe.toml instead of searching."),
    click.option(
        "--io",
        type=click.Choice(["float", "int8", "uint8"]),
        envvar="MMEXPORT_IO",
        help="int8, TFLite: type of image and alpha in the file, 8 bits with a scale; alpha in steps of 1/255. "
        "With --input uint8 pixels enter as they are. Default: float.",
    ),
)


def int8_options(command: Command) -> Command:
    """Give ``command`` the options: calibration, quality_budget, ranges, tune, recipe and io, None where not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
