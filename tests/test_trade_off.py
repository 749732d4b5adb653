"""Artifacts of one network are told apart, and nothing else is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import UsageError
from mobile_matting_export.parity import Case
from mobile_matting_export.quantization.score import Score
from mobile_matting_export.score_artifact import Scored
from mobile_matting_export.trade_off import (
    ArtifactRow,
    DeviceLatencies,
    Latency,
    TradeOff,
    label_artifacts,
    require_one_network,
)


def make_network(**changes: Any) -> dict[str, Any]:
    checkpoint = {"file": "net.pt", "sha256": "c" * 64}
    head = {"kind": "sigmoid", "foreground": 1}
    made = {"name": "net", "source": "net", "head": head, "state_sha256": "5" * 64, "checkpoint": checkpoint}
    return made | changes


def make_int8(**changes: Any) -> dict[str, Any]:
    return {"budget": {"mad_band": 0.01}, "held_out": {"used": 0.8}, "macs_int8": 0.9, "points": []} | changes


def make_artifact(folder: str, size: int = 64, **changes: Any) -> Artifact:
    image: dict[str, Any] = {"name": "image", "shape": [1, size, 48, 3], "layout": "NHWC", "dtype": "float32"}
    image |= {"color": "RGB", "mean": [0, 0, 0], "scale": [1, 1, 1], "resize": "stretch", "fill": 0}
    manifest = {
        "network": make_network(),
        "target": "tflite-cpu",
        "precision": "fp32",
        "accelerator": "cpu",
        "mode": "cpu",
        "inputs": [image],
        "files": [{"path": "net.tflite", "bytes": 400_000, "sha256": "a" * 64}],
        "parity": {"max_abs": 1e-6, "mad": 1e-7, "psnr_db": None, "worst": "first.jpg"}
        | {"limits": {"max_abs": 1e-3, "mad": 1e-4}},
    }
    return Artifact(Path(folder), manifest | changes)


def make_scored(band: float, largest: float = 0.1) -> Scored:
    alpha = np.zeros((1, 1, 64, 48), np.float32)
    alpha[..., 16:48, 16:32] = 1
    case = Case("<first>.jpg", np.zeros((90, 60, 3), np.uint8), {}, alpha)
    score = Score(band, band / 2, band * 2, 40.0, largest, case.name)
    return Scored(score, 4, "cpu (XNNPACK)", case, np.clip(alpha - largest, 0, 1))


def test_a_label_says_no_more_than_tells_artifacts_apart() -> None:
    one, other = make_artifact("build/a"), make_artifact("build/b", precision="int8")
    assert label_artifacts([one, other]) == ["tflite-cpu fp32", "tflite-cpu int8"]
    assert label_artifacts([one, make_artifact("build/c", 96)]) == ["tflite-cpu fp32 64x48", "tflite-cpu fp32 96x48"]
    # the size bears on the figures, so it is told of all, also of one that no other resembles
    sized = label_artifacts([other, make_artifact("build/c", 96)])
    assert sized == ["tflite-cpu int8 64x48", "tflite-cpu fp32 96x48"]
    twice = label_artifacts([one, make_artifact("build/c"), other])
    assert twice == ["tflite-cpu fp32 build/a", "tflite-cpu fp32 build/c", "tflite-cpu int8"]
    budgets = [
        make_artifact("build/d", quantization=make_int8(budget={"mad_band": limit, "psnr": 30}))
        for limit in (0.01, 0.002)
    ]
    assert label_artifacts(budgets) == [
        "tflite-cpu fp32 mad_band=0.01,psnr=30",
        "tflite-cpu fp32 mad_band=0.002,psnr=30",
    ]


def test_other_networks_and_other_weights_are_refused() -> None:
    one = make_artifact("build/a")
    assert require_one_network([one, make_artifact("build/b", precision="int8")]) == "net"
    with pytest.raises(UsageError, match=r"build/a and build/b are of two networks, net and mmnet"):
        require_one_network([one, make_artifact("build/b", network=make_network(name="mmnet"))])
    with pytest.raises(UsageError, match=r"two sources, /.*/one\.py:build and /.*/two\.py:build"):
        mine, other = (make_network(source=f"{name}.py:build") for name in ("one", "two"))
        require_one_network([make_artifact("build/a", network=mine), make_artifact("build/b", network=other)])


@pytest.mark.parametrize(
    "checkpoint", [None, {"file": "net.pt", "sha256": "c" * 64}], ids=["of a callable", "of a file"]
)
def test_weights_are_told_apart_by_their_tensors_whatever_file_they_came_from(
    checkpoint: dict[str, str] | None,
) -> None:
    one = make_artifact("build/a", network=make_network(checkpoint=checkpoint))
    again = make_network(checkpoint={"file": "copy.pt", "sha256": "d" * 64})
    assert require_one_network([one, make_artifact("build/b", network=again)]) == "net"
    other = make_network(checkpoint=checkpoint, state_sha256="6" * 64)
    with pytest.raises(UsageError, match=r"two trainings .*, 555555555555 and 666666666666"):
        require_one_network([one, make_artifact("build/b", network=other)])


def test_one_file_under_two_paths_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = ("mine.py:build", f"{tmp_path}/mine.py:build", "./mine.py:build")
    made = [make_artifact(f"build/{number}", network=make_network(source=one)) for number, one in enumerate(sources)]
    assert require_one_network(made) == "net"


def test_the_values_are_plain_and_infinities_are_none() -> None:
    found = make_int8()
    int8 = make_artifact("build/b", precision="int8", quantization=found | {"layers": ["many"]})
    rows = (
        ArtifactRow("fp32", make_artifact("build/a"), None, "no weights"),
        ArtifactRow("int8", int8, make_scored(float("inf"))),
    )
    host = DeviceLatencies("host", "b.json", "", (None, Latency(10.0, 11.0, "cpu x1", "launches", ("busy",))))
    told = json.loads(json.dumps(TradeOff("net", rows, (host,)).as_dict(), allow_nan=False))
    first, second = told["artifacts"]
    assert (first["error"], first["why_no_error"], first["int8"], first["bytes"]) == (None, "no weights", None, 400_000)
    assert second["error"]["mad_band"] is None and second["error"]["worst"] == "<first>.jpg"
    assert second["int8"] == found
    timed = {"p50": 10.0, "p90": 11.0, "on": "cpu x1", "p90_of": "launches", "doubts": ["busy"]}
    assert told["latency"][0]["latencies"] == [None, timed]
    assert second["error"]["device"] == "cpu (XNNPACK)" and second["accelerator"] == "cpu"


def test_two_reports_of_one_device_are_told_apart_by_their_source() -> None:
    one, other, two = (DeviceLatencies(name, f"{name}{n}.json", "", ()) for n, name in enumerate("aba"))
    assert TradeOff("net", (), (one, other)).device_names == ["a", "b"]
    assert TradeOff("net", (), (one, other, two)).device_names == ["a (a0.json)", "b", "a (a2.json)"]


def test_of_a_report_its_base_name_is_told_and_its_path_where_two_share_it() -> None:
    paths = ("here/one.json", "here/two.json", "there/two.json")
    first, second, third = (DeviceLatencies("a", path, "", ()) for path in paths)
    assert TradeOff("net", (), (first, second)).device_names == ["a (one.json)", "a (two.json)"]
    names = ["a (one.json)", "a (here/two.json)", "a (there/two.json)"]
    assert TradeOff("net", (), (first, second, third)).device_names == names


def test_what_the_error_leaves_out_is_said_where_sizes_differ() -> None:
    large, small = (ArtifactRow("fp32", make_artifact(f"build/{size}", size), make_scored(0.0)) for size in (128, 64))
    assert TradeOff("net", (large, large), ()).about_sizes == ""
    told = TradeOff("net", (small, large, small), ()).about_sizes
    assert "of different sizes, 128x48 and 64x48. Each error is against the network at the artifact's own size" in told
    assert "not what a smaller size itself costs" in told and "mmexport fit" in told and "mmexport evaluate" in told
    sizes = [one["size"] for one in TradeOff("net", (small, large), ()).as_dict()["artifacts"]]
    assert sizes == [[64, 48], [128, 48]]
