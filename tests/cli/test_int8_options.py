"""The options of int8 say what they are for, and are not given unless they are."""

from __future__ import annotations

from typing import Any

import click
from click.testing import CliRunner

from mobile_matting_export.cli.convert import convert
from mobile_matting_export.cli.int8_options import int8_options


def test_none_is_given_without_flags() -> None:
    given: dict[str, Any] = {}

    @click.command()
    @int8_options
    def command(**flags: Any) -> None:
        given.update(flags)

    assert CliRunner().invoke(command, []).exit_code == 0
    assert given == dict.fromkeys(["calibration", "quality_budget", "ranges", "tune", "recipe", "io"])


def test_convert_has_them_in_this_order_and_each_names_int8() -> None:
    options = {option.name: option for option in convert.params if isinstance(option, click.Option)}
    names = ["calibration", "quality_budget", "ranges", "tune", "recipe", "io"]

    assert [name for name in options if name in names] == names
    assert all((options[name].help or "").startswith("int8") for name in names)
