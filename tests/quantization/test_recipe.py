from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.quantization.layer import QuantizableLayer
from mobile_matting_export.quantization.recipe import Recipe, find_layers, read_recipe, write_recipe

LAYERS = tuple(
    QuantizableLayer(f"{module}@1", module, "CONV_2D", 100, 40, 10) for module in ("net.a.conv", "net.a.norm", "net.ab")
)
RECIPE = Recipe(
    "mmnet",
    "tflite-cpu",
    (256, 256),
    "static",
    "percentile",
    0.75,
    False,
    ("net.a.conv@1",),
    "0" * 64,
    "f" * 64,
    "mad=0.1",
)


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(RECIPE, LAYERS, path)

    assert read_recipe(path) == RECIPE
    text = path.read_text()
    assert text.startswith("# How this int8 artifact was made.")
    assert 'module = "net.a.conv"' in text


def test_steps_of_tuning_are_kept_and_none_are_meant_where_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(replace(RECIPE, tune_steps=150), LAYERS, path)

    assert read_recipe(path).tune_steps == 150
    path.write_text(path.read_text().replace("tune_steps = 150\n", ""))
    assert read_recipe(path).tune_steps == 0
    path.write_text(path.read_text().replace("equalize =", "tune_steps = -1\nequalize ="))
    with pytest.raises(UsageError, match=r"tune_steps in the recipe .* must be 0 or more, it is -1"):
        read_recipe(path)


def test_how_weights_are_rounded_is_kept_and_the_nearest_is_meant_where_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(replace(RECIPE, rounding="error_feedback"), LAYERS, path)

    assert read_recipe(path).rounding == "error_feedback"
    path.write_text(path.read_text().replace('rounding = "error_feedback"', 'rounding = "up"'))
    with pytest.raises(UsageError, match=r"rounding in the recipe .* must be one of nearest, error_feedback, it is 'u"):
        read_recipe(path)
    path.write_text(path.read_text().replace('rounding = "up"\n', ""))
    assert read_recipe(path).rounding == "nearest"


def test_the_type_of_the_ends_is_kept_and_float_is_meant_where_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(replace(RECIPE, io="int8"), LAYERS, path)

    assert read_recipe(path).io == "int8"
    path.write_text(path.read_text().replace('io = "int8"', 'io = "int4"'))
    with pytest.raises(UsageError, match=r"io in the recipe .* must be one of float, int8, uint8, it is 'int4'"):
        read_recipe(path)
    path.write_text(path.read_text().replace('io = "int4"\n', ""))
    assert read_recipe(path).io == "float"


def test_a_name_means_a_layer_or_all_within_a_module_of_that_path() -> None:
    assert find_layers(["net.ab@1"], LAYERS, "the recipe") == {"net.ab@1"}
    assert find_layers(["net.a"], LAYERS, "the recipe") == {"net.a.conv@1", "net.a.norm@1"}
    assert find_layers([], LAYERS, "the recipe") == frozenset()


def test_a_module_written_wrongly_is_told_what_it_may_mean() -> None:
    with pytest.raises(UsageError, match="it has ") as failure:
        find_layers(["net.aa"], LAYERS, "the recipe")
    assert "net.a," in str(failure.value) or "net.a and others" in str(failure.value)


def test_an_absent_layer_is_named() -> None:
    with pytest.raises(UsageError, match=r"the recipe keeps 'net\.b' in float, but no layer or module"):
        find_layers(["net.a", "net.b"], LAYERS, "the recipe")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("mmexport.recipe/1", "mmexport.recipe/9", "no recipe of this version"),
        ("[\n    256,\n    256,\n]", "256", "needs size, a list; it is 256"),
        ("    256,\n    256,\n", "    256,\n", "must be \\[height, width\\]"),
        ('"percentile"', '"median"', "must be one of percentile, minmax, mse, kl, it is 'median'"),
        ("equalize = 0.75", "equalize = 7", "equalize .* must be from 0 to 1, it is 7"),
        ("equalize = 0.75", 'equalize = "much"', "needs equalize, a number"),
        ('network = "mmnet"\n', "", "needs network, a text; it is missing"),
        ("schema", "sch ema", "not valid TOML"),
    ],
)
def test_a_recipe_that_was_edited_wrongly_says_what_is_wrong(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(RECIPE, LAYERS, path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=reason):
        read_recipe(path)


def test_an_entry_without_layer_and_module_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(replace(RECIPE, keep_float=()), LAYERS, path)
    path.write_text(path.read_text() + '\n[[keep_float]]\nkind = "CONV_2D"\n')
    with pytest.raises(UsageError, match="neither layer nor module"):
        read_recipe(path)
    with pytest.raises(UsageError, match="cannot read the recipe"):
        read_recipe(tmp_path / "absent.toml")


def test_another_table_can_be_added_below_and_unknown_entries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(RECIPE, LAYERS, path)
    text = path.read_text()
    path.write_text(text + '\n[[keep_float]]\nmodule = "net.ab"\n')
    assert read_recipe(path).keep_float == ("net.a.conv@1", "net.ab")

    path.write_text(text.replace("[[keep_float]]", "[[keep_flaot]]"))
    with pytest.raises(UsageError, match=r"unknown entry keep_flaot: did you mean keep_float\?"):
        read_recipe(path)
    path.write_text(text.replace("layer = ", "layers = "))
    with pytest.raises(UsageError, match=r"unknown entry keep_float: layers: did you mean layer\?"):
        read_recipe(path)
