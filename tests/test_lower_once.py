"""The converter runs once a graph; what comes back from the cache is what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.lower_once import Lowering, lower_once
from mobile_matting_export.result_cache import ResultCache


class Converter:
    """Writes two files that tell the graph's constant; counts what it is asked for."""

    __module__ = "tests.test_lower_once"
    __qualname__ = "Converter"

    def __init__(self, fail: bool = False) -> None:
        self.asked: list[str] = []
        self.fail = fail

    def emit(self, graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
        self.asked.append(precision)
        if self.fail:
            raise ConversionError("no operator for it")
        files = (folder / f"{stem}.ncnn.param", folder / f"{stem}.ncnn.bin")
        for file in files:
            file.write_text(f"{precision} {file.suffix} {graph.module.graph}")
        return files

    def narrow(self, files: tuple[Path, ...], precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
        self.asked.append(f"narrow to {precision}")
        made = []
        for file in files:
            made.append(folder / f"{stem}{file.name.removeprefix('net_fp16')}")
            made[-1].write_text(file.read_text().replace("fp32", precision))
        return tuple(made)


def graph(factor: float) -> ExportGraph:
    class Times(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * factor

    image = torch.zeros(1, 1, 4, 4)
    return ExportGraph(capture(Times(), {"image": image}), {"image": image})


def run(cache: ResultCache | None, lowering: Lowering, wanted: ExportGraph, precision: str, folder: Path) -> list[str]:
    folder.mkdir()
    files = lower_once(cache, lowering, wanted, precision, folder, f"net_{precision}")
    assert [file.name for file in files] == [f"net_{precision}.ncnn.param", f"net_{precision}.ncnn.bin"]
    assert sorted(folder.iterdir()) == sorted(files)
    return [file.read_text() for file in files]


def test_a_second_call_takes_what_the_first_wrote(tmp_path: Path) -> None:
    converter, cache = Converter(), ResultCache(tmp_path / "cache")
    lowering = Lowering("ncnn", converter.emit)
    first = run(cache, lowering, graph(2.0), "fp32", tmp_path / "a")
    assert run(cache, lowering, graph(2.0), "fp32", tmp_path / "b") == first
    assert converter.asked == ["fp32"]

    assert run(cache, lowering, graph(3.0), "fp32", tmp_path / "c") != first
    run(cache, lowering, graph(2.0), "fp16", tmp_path / "d")
    run(cache, Lowering("other", converter.emit), graph(2.0), "fp32", tmp_path / "e")
    assert converter.asked == ["fp32", "fp32", "fp16", "fp32"]


def test_half_precision_is_narrowed_from_the_float_files_and_both_are_kept(tmp_path: Path) -> None:
    converter, cache = Converter(), ResultCache(tmp_path / "cache")
    lowering = Lowering("ncnn", converter.emit, converter.narrow)
    half = run(cache, lowering, graph(2.0), "fp16", tmp_path / "a")
    full = run(cache, lowering, graph(2.0), "fp32", tmp_path / "b")
    assert run(cache, lowering, graph(2.0), "fp16", tmp_path / "c") == half
    assert converter.asked == ["fp32", "narrow to fp16"]
    assert half == [text.replace("fp32", "fp16") for text in full]


def test_without_a_cache_the_converter_writes_what_is_asked_for(tmp_path: Path) -> None:
    converter = Converter()
    run(None, Lowering("ncnn", converter.emit, converter.narrow), graph(2.0), "fp16", tmp_path / "a")
    assert converter.asked == ["fp16"]


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    converter, cache = Converter(fail=True), ResultCache(tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(ConversionError, match="no operator"):
            lower_once(cache, Lowering("ncnn", converter.emit), graph(2.0), "fp32", tmp_path, "net")
    assert converter.asked == ["fp32", "fp32"]
    assert not cache.folder.exists()
