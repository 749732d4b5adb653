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
from mobile_matting_export.trade_off import Clocked, Entry, Latency, TradeOff, label_artifacts, require_one_network


def make_artifact(folder: str, size: int = 64, **changes: Any) -> Artifact:
    image: dict[str, Any] = {"name": "image", "shape": [1, size, 48, 3], "layout": "NHWC", "dtype": "float32"}
    image |= {"color": "RGB", "mean": [0, 0, 0], "scale": [1, 1, 1], "resize": "stretch", "fill": 0}
    manifest = {
        "network": {"name": "net", "checkpoint": {"file": "net.pt", "sha256": "c" * 64}},
        "target": "tflite-cpu",
        "precision": "fp32",
        "inputs": [image],
        "files": [{"path": "net.tflite", "bytes": 400_000, "sha256": "a" * 64}],
        "parity": {"max_abs": 1e-6, "mad": 1e-7, "psnr_db": None, "worst": "first.jpg"},
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
    twice = label_artifacts([one, make_artifact("build/c"), other])
    assert twice == ["tflite-cpu fp32 build/a", "tflite-cpu fp32 build/c", "tflite-cpu int8"]
    budgets = [
        make_artifact("build/d", quantization={"budget": {"mad_band": limit, "psnr": 30}}) for limit in (0.01, 0.002)
    ]
    assert label_artifacts(budgets) == [
        "tflite-cpu fp32 mad_band=0.01,psnr=30",
        "tflite-cpu fp32 mad_band=0.002,psnr=30",
    ]


def test_other_networks_and_other_weights_are_refused() -> None:
    one = make_artifact("build/a")
    assert require_one_network([one, make_artifact("build/b", precision="int8")]) == "net"
    with pytest.raises(UsageError, match=r"build/a and build/b are of two networks, net and mmnet"):
        require_one_network([one, make_artifact("build/b", network={"name": "mmnet", "checkpoint": None})])
    with pytest.raises(UsageError, match=r"two checkpoints, cccccccccccc and None"):
        require_one_network([one, make_artifact("build/b", network={"name": "net", "checkpoint": None})])


def test_the_values_are_plain_and_infinities_are_none() -> None:
    found = {"budget": {"mad_band": 0.01}, "held_out": {"mad_band": 0.008}, "macs_int8": 0.9, "points": []}
    int8 = make_artifact("build/b", precision="int8", quantization=found | {"layers": ["many"]})
    entries = (
        Entry("fp32", make_artifact("build/a"), None, "no weights"),
        Entry("int8", int8, make_scored(float("inf"))),
    )
    clocked = Clocked("host", "b.json", "", (None, Latency(10.0, 11.0, "cpu x1", ("busy",))))
    told = json.loads(json.dumps(TradeOff("net", entries, (clocked,)).as_dict(), allow_nan=False))
    first, second = told["artifacts"]
    assert (first["error"], first["why_no_error"], first["int8"], first["bytes"]) == (None, "no weights", None, 400_000)
    assert second["error"]["mad_band"] is None and second["error"]["worst"] == "<first>.jpg"
    assert second["int8"] == found
    assert told["latency"][0]["latencies"] == [None, {"p50": 10.0, "p90": 11.0, "on": "cpu x1", "doubts": ["busy"]}]
