"""The Python API: importing it costs nothing, and every public name is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mobile_matting_export

HEAVY = ("torch", "numpy", "rich", "onnx", "ncnn", "click")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, mobile_matting_export; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", mobile_matting_export.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(mobile_matting_export, name) is not None


def test_public_names_are_listed_once_and_importable_together() -> None:
    names = mobile_matting_export.__all__
    assert len(set(names)) == len(names)
    scope: dict[str, object] = {}
    exec("from mobile_matting_export import *", scope)
    assert set(names) <= set(scope)


def test_the_names_of_the_example_in_the_docstring_are_public() -> None:
    example = mobile_matting_export.__doc__ or ""
    for name in ("Job", "convert_network", "find_target", "load_network"):
        assert name in example and name in mobile_matting_export.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'convrt'"):
        _ = mobile_matting_export.convrt
