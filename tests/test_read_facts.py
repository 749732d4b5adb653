"""A manifest is read whole, and a field that it lacks is named."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from report.test_int8_section import point
from test_trade_off import make_artifact, make_int8

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import UsageError
from mobile_matting_export.read_facts import read_facts


def int8_artifact() -> Artifact:
    return make_artifact("build/a", quantization=make_int8(points=[point(0, 0.002, chosen=True)]))


def test_what_a_manifest_says_in_plain_values() -> None:
    facts = read_facts(int8_artifact())
    assert (facts.network, facts.source, facts.target, facts.accelerator) == ("net", "net", "tflite-cpu", "cpu")
    assert (facts.mode, facts.limits, facts.size, facts.bytes) == ("cpu", (1e-3, 1e-4), (64, 48), 400_000)
    assert facts.int8 is not None and (facts.int8.budget, facts.int8.used) == ("mad_band=0.01", 0.8)
    assert read_facts(make_artifact("build/a")).int8 is None


@pytest.mark.parametrize(
    "path",
    [
        *(("mode",), ("accelerator",), ("precision",), ("network", "state_sha256"), ("network", "head", "kind")),
        *(("network", "checkpoint", "sha256"), ("parity", "limits"), ("parity", "worst"), ("files", 0, "bytes")),
        *(("inputs", 0, "fill"), ("quantization", "macs_int8"), ("quantization", "held_out", "used")),
        ("quantization", "points", 0, "macs_float"),
    ],
    ids=lambda path: ".".join(map(str, path)),
)
def test_a_field_that_is_not_there_is_named_with_the_way_out(path: tuple[Any, ...]) -> None:
    manifest = deepcopy(int8_artifact().manifest)
    *parents, name = path
    inner: Any = manifest
    for step in parents:
        inner = inner[step]
    del inner[name]
    with pytest.raises(UsageError, match=rf"manifest of build/a lacks '{name}': convert the network again"):
        read_facts(Artifact(Path("build/a"), manifest))


def test_one_original_serves_all_that_take_the_same_picture() -> None:
    one = make_artifact("build/a")
    image = one.manifest["inputs"][0]
    nchw = image | {"shape": [1, 3, 64, 48], "layout": "NCHW"}
    own = {"color": "RGB", "mean": [0, 0, 0], "scale": [0.1, 0.1, 0.1]}
    pixels, as_bytes = (image | {"baked": own, "dtype": dtype} for dtype in ("float32", "uint8"))
    originals = [
        read_facts(made).original
        for made in (
            one,
            make_artifact("build/b", target="ncnn-cpu", inputs=[nchw]),
            make_artifact("build/c", inputs=[image | {"dtype": "uint8"}]),
            make_artifact("build/d", 96),
            make_artifact("build/e", inputs=[image | {"mean": [1, 1, 1]}]),
            make_artifact("build/f", inputs=[pixels]),
            make_artifact("build/g", inputs=[as_bytes]),
        )
    ]
    assert originals[0] == originals[1] == originals[2] and len(set(originals)) == 5
