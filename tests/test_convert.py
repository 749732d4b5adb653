"""The pipeline as a whole: what it writes, that it writes the same again, and what it does on a miss."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from mobile_matting_export.artifact import read_artifact
from mobile_matting_export.convert import Job, convert_network
from mobile_matting_export.errors import QualityError, UsageError
from mobile_matting_export.network import load_network
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite
from mobile_matting_export.targets import find_target

pytestmark = pytest.mark.toolchain

NAMES_OF_THE_CONTRACT = {
    "schema",
    "network",
    "target",
    "precision",
    "accelerator",
    "inputs",
    "outputs",
    "files",
    "rewrites",
    "parity",
    "cost",
    "tools",
}


def convert_ldn(output: Path, target: str, **options: object) -> Path:
    (artifact,) = convert_network(load_network("ldn_fb"), Job((find_target(target),), output, **options))  # type: ignore[arg-type]
    return artifact.folder


@pytest.mark.parametrize("target", ["tflite-cpu", "ncnn-cpu", "onnx"])
def test_convert_writes_the_contract_and_the_same_bytes_again(target: str, tmp_path: Path) -> None:
    first, second = convert_ldn(tmp_path / "one", target), convert_ldn(tmp_path / "two", target)

    precision = find_target(target).default_precision
    assert first == tmp_path / "one" / "ldn_fb" / f"{target}-{precision}"
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in second.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name

    manifest = json.loads((first / "manifest.json").read_text())
    assert manifest.keys() >= NAMES_OF_THE_CONTRACT
    assert manifest["schema"] == "mmexport.manifest/1"
    assert manifest["network"]["params"] == 25_641
    assert manifest["network"]["macs"] == 117_043_200  # as published and as `mmexport networks` says
    # the rewritten graph; columns computed together multiply by zeros in lanes that a CPU would waste
    assert (manifest["cost"]["macs"] < manifest["network"]["macs"]) == (target != "tflite-cpu")
    assert manifest["network"]["head"] == {"kind": "alpha", "output": 1, "foreground": 1}
    assert manifest["network"]["checkpoint"]["file"] == "ldn_fb_128x128.safetensors"
    assert all(path["path"].startswith(f"ldn_fb_128x128_{precision}") for path in manifest["files"])
    assert (first / "report.html").is_file()
    image = manifest["inputs"][0]
    assert image["mean"] == [127.5] * 3
    assert image["scale"] == pytest.approx([1 / 127.5] * 3)
    assert image["shape"] == ([1, 128, 128, 3] if image["layout"] == "NHWC" else [1, 3, 128, 128])
    assert manifest["outputs"][0]["name"] == "alpha"
    assert manifest["parity"]["images"] >= 4


def test_convert_replaces_its_own_folder_and_refuses_another(tmp_path: Path) -> None:
    folder = convert_ldn(tmp_path, "onnx")
    assert convert_ldn(tmp_path, "onnx") == folder

    (folder / "manifest.json").unlink()
    with pytest.raises(UsageError, match="--force"):
        convert_ldn(tmp_path, "onnx")
    assert convert_ldn(tmp_path, "onnx", overwrite="anything") == folder
    read_artifact(folder)


def test_missed_limit_names_fp16_rounding_and_leaves_no_artifact(tmp_path: Path) -> None:
    folder = convert_ldn(tmp_path, "ncnn-cpu")
    network = load_network("ldn_fb")
    with torch.no_grad():  # the bundled weights are halves already: rounding them changes nothing
        for parameter in network.module.parameters():
            parameter.mul_(1.0003)

    with pytest.raises(QualityError, match=r"rounding the weights to fp16.*No artifact is left"):
        convert_network(network, Job((find_target("ncnn-cpu"),), tmp_path, max_error=1e-5))

    assert not list(folder.parent.iterdir())


def test_missed_limit_names_the_rewrite_that_broke_the_matte(tmp_path: Path) -> None:
    target = find_target("onnx")

    def halve(graph_module: torch.fx.GraphModule) -> Outcome:
        output = next(node for node in graph_module.graph.nodes if node.op == "output")
        with graph_module.graph.inserting_before(output):
            wrong = graph_module.graph.call_function(torch.ops.aten.mul.Tensor, (output.args[0], 0.5))
        wrong.meta["shape"] = output.args[0].meta["shape"]
        output.args = (wrong,)
        return Outcome(1)

    careless = Rewrite("halve_alpha", "none", halve, exact=False)
    broken = dataclasses.replace(target, rewrites=(*target.rewrites, careless))
    with pytest.raises(QualityError, match="First broken by rewrite halve_alpha"):
        convert_network(load_network("ldn_fb"), Job((broken,), tmp_path))
    assert not list(tmp_path.iterdir())
