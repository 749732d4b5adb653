"""The inspection's page: whole, self-contained, coloured by verdict."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from mobile_matting_export.inspection import (
    TAKEN,
    BackendReport,
    Graph,
    Hazard,
    Inspection,
    Memory,
    Op,
    Part,
    Remark,
    Tensor,
    Times,
    Verdict,
)
from mobile_matting_export.report.inspection_page import write_inspection_page

TENSORS = (Tensor("x", (1, 8, 8, 4), "FLOAT32"), Tensor("y", (1, 4), "FLOAT32"), Tensor("z", None, "FLOAT32"))
OPS = (
    Op(0, "MEAN", 1, (0,), (1,), macs=0, module="net.pool"),
    Op(1, "GATHER_ND", 1, (1,), (2,), macs=0, module="net.<odd>"),
)
REFUSAL = Verdict(False, "Operation is not supported.", "it has no GATHER_ND", "use a strided convolution")
REPORT = BackendReport(
    "classic", "TFLite GPU delegate", "2.1.0", "partial", (TAKEN, REFUSAL), (Part(True, (0,)), Part(False, (1,))), 1
)
INSPECTION = Inspection(
    title="small",
    files=("folder/small.tflite",),
    bytes=1234,
    graph=Graph("tflite", TENSORS, OPS, (0,), (2,), ("a note",)),
    backends=(REPORT,),
    memory=Memory(1280, 0, "estimate: by hand"),
    remarks=(Remark((0,), "it costs", "less of it"),),
    hazards=(Hazard(0, "SUM_OVERFLOW", "ML Drift", "the sum is too large", "cascade it", {"largest sum": 70000.0}),),
)


def _page(folder: Path, inspection: Inspection = INSPECTION) -> str:
    path = folder / "page.html"
    write_inspection_page(path, inspection)
    return path.read_text(encoding="utf-8")


def test_every_operation_has_a_cell_and_a_row(tmp_path: Path) -> None:
    page = _page(tmp_path)
    assert re.findall(r'<rect class="(\w+)"', page) == ["taken", "refused"]
    assert 'id="op-0"' in page and 'id="op-1"' in page
    assert "1×8×8×4 float32" in page and "? float32" in page


def test_a_module_may_wrap_so_that_verdicts_are_in_sight(tmp_path: Path) -> None:
    page = _page(tmp_path)
    assert '<td class="module">net.<wbr>pool</td>' in page and '<td class="module">net.<wbr>&lt;odd&gt;</td>' in page
    assert "td.module { overflow-wrap: anywhere; }" in page


def test_reasons_remedies_remarks_and_hazards_are_shown(tmp_path: Path) -> None:
    page = _page(tmp_path)
    for words in (
        "GATHER_ND: Operation is not supported.",
        "use a strided convolution",
        "it costs",
        "a note",
        "SUM_OVERFLOW",
        "largest sum 7e+04",
        "estimate: by hand",
        "takes 1 of 2 operations",
    ):
        assert words in page, words


def test_names_are_escaped(tmp_path: Path) -> None:
    page = _page(tmp_path)
    assert "net.&lt;odd&gt;" in page and "<odd>" not in page


def test_it_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = _page(tmp_path)
    assert "<script" not in page and not re.search(r'(src|href)="(?!#)', page) and "http" not in page


def test_the_same_inspection_gives_the_same_bytes(tmp_path: Path) -> None:
    assert _page(tmp_path) == _page(tmp_path)


def test_a_delegate_that_does_not_start_is_dark(tmp_path: Path) -> None:
    stops = replace(REFUSAL, fatal=True)
    report = replace(REPORT, outcome="fails", verdicts=(TAKEN, stops), accelerated=0)
    page = _page(tmp_path, replace(INSPECTION, backends=(report,), memory=Memory(None, None, "", "no shapes")))
    assert '<rect class="stops"' in page
    assert "does not start: operation 1 stops the whole delegate" in page
    assert "No peak: no shapes" in page


def test_times_are_told_for_what_they_are(tmp_path: Path) -> None:
    assert "time here" not in _page(tmp_path)
    measured = _page(tmp_path, replace(INSPECTION, times=Times((3.0, 1.0), 4.4)))
    assert "time here" in measured and "3.000 ms, 75.0%" in measured and "add up to 0.91 of it" in measured
    counted = _page(tmp_path, replace(INSPECTION, times=Times(why_not="nobody can tell")))
    assert "of the multiply-adds, counted" in counted and "nobody can tell." in counted and "time here" not in counted
