"""Reading a TFLite flatbuffer, and refusing what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.tflite import TFLITE
from mobile_matting_export.formats.tflite.read_file import parse, read_file


@pytest.mark.toolchain
def test_operators_tensors_and_signature(small_file: Path) -> None:
    file = read_file(small_file)
    assert [signature.key for signature in file.signatures] == ["matte"]
    resize = next(op for op in file.main.operators if op.kind == "RESIZE_BILINEAR")
    assert resize.version == 3
    assert resize.options["halfPixelCenters"] and not resize.options["alignCorners"]
    assert file.main.tensors[resize.outputs[0]].shape == (1, 32, 24, 16)
    image = file.main.tensors[file.main.inputs[0]]
    assert (image.shape, image.dtype, image.constant) == ((1, 32, 24, 3), "FLOAT32", False)
    assert file.main.tensors[resize.inputs[1]].constant
    assert file.main.operators[-1].outputs == file.main.outputs


@pytest.mark.toolchain
def test_count_ops_is_sorted_by_number_then_name(small_file: Path) -> None:
    counts = TFLITE.count_ops((small_file,))
    assert counts["CONV_2D"] == 3
    assert list(counts) == sorted(counts, key=lambda kind: (-counts[kind], kind))
    assert sum(counts.values()) == len(read_file(small_file).main.operators)


@pytest.mark.toolchain
def test_custom_operator_is_counted_under_its_own_name(small_file: Path, tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = parse(small_file)
    code = model.operatorCodes[model.subgraphs[0].operators[-1].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"Matte2"
    path = tmp_path / "custom.tflite"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    assert TFLITE.count_ops((path,))["Matte2"] == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read TFLite file .*net\.tflite: No such file"):
        read_file(tmp_path / "net.tflite")


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read TFLite file .*: Is a directory"):
        read_file(tmp_path)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x89PNG\r\n\x1a\n" * 10, b"PK\x03\x04" + b"\0" * 100])
def test_foreign_content(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"net\.tflite is not a TFLite file"):
        read_file(path)


def test_identifier_alone_is_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 64)
    with pytest.raises(UsageError, match=r"net\.tflite (is damaged or truncated|holds no graph)"):
        read_file(path)
