"""Node data of Model Explorer: the documented fields, keyed by the operators' numbers, a file for each backend."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mobile_matting_export.errors import UsageError
from mobile_matting_export.inspection import TAKEN, BackendReport, Graph, Inspection, Memory, Op, Part, Verdict
from mobile_matting_export.report.model_explorer import write_overlays

OPS = tuple(Op(number, kind, 1, (), ()) for number, kind in enumerate(("MEAN", "GATHER_ND", "WHILE")))
VERDICTS = (TAKEN, Verdict(False, means="it has no GATHER_ND"), Verdict(False, means="no loops", fatal=True))
REPORT = BackendReport("classic", "TFLite GPU delegate", "2.1.0", "fails", VERDICTS, (Part(True, (0,)),), 0)
INSPECTION = Inspection(
    title="small",
    files=("small.tflite",),
    bytes=1,
    graph=Graph("tflite", (), OPS, (), ()),
    backends=(REPORT, replace(REPORT, name="xnnpack")),
    memory=Memory(None, None, "", "by hand"),
)


def test_every_operation_has_its_verdict_under_its_number(tmp_path: Path) -> None:
    written = write_overlays(tmp_path / "new" / "folder", INSPECTION)
    assert [path.name for path in written] == ["classic.json", "xnnpack.json"]
    data = json.loads(written[0].read_text())
    # a lone GraphNodeData is told from one by graph id by its `results`
    assert set(data) == {"name", "results"} and data["name"] == "TFLite GPU delegate, rules 2.1.0"
    values = {key: result["value"] for key, result in data["results"].items()}
    assert values == {"0": "taken", "1": "CPU: it has no GATHER_ND", "2": "stops: no loops"}
    colors = [result["bgColor"] for result in data["results"].values()]
    assert len(set(colors)) == 3 and all(set(r) == {"value", "bgColor", "textColor"} for r in data["results"].values())


def test_what_model_explorer_cannot_read_is_refused(tmp_path: Path) -> None:
    ncnn = replace(INSPECTION, graph=replace(INSPECTION.graph, format="ncnn"))
    with pytest.raises(UsageError, match="Model Explorer does not read"):
        write_overlays(tmp_path, ncnn)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another --overlay"):
        write_overlays(tmp_path / "file", INSPECTION)
