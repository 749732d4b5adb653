"""``mmexport evaluate`` on real artifacts: its table, its JSON, its files, its refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobile_matting_export.cli.main import run
from mobile_matting_export.evaluate import METRICS
from mobile_matting_export.procedural_portraits import make_portrait

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    assert run(["convert", "ldn_fb", "-t", "onnx", "-o", str(folder), "-q"]) == 0
    return folder / "ldn_fb" / "onnx-fp32"


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portraits")
    for kind in ("image", "alpha"):
        (folder / kind).mkdir()
    for seed in range(3):
        image, alpha = make_portrait(seed, 96)
        Image.fromarray(image).save(folder / "image" / f"p{seed}.jpg")
        Image.fromarray(np.rint(alpha * 255).astype(np.uint8)).save(folder / "alpha" / f"p{seed}.png")
    return folder


def test_json_has_the_contracts_form(artifact: Path, portraits: Path, tmp_path: Path, capsys) -> None:
    assert run(["evaluate", str(artifact), "--data", str(portraits), "-o", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 3
    assert set(result["metrics"]) == {metric.name for metric in METRICS}
    for figure in result["metrics"].values():
        low, high = figure["ci95"]
        assert low <= figure["mean"] <= high
    assert result["results"][0]["metrics"] == result["metrics"]
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert stored["schema"] == "mmexport.evaluation/1"
    pictures = stored["results"][0]["pictures"]
    assert [row["name"] for row in pictures] == ["p0", "p1", "p2"]
    assert np.mean([row["mad"] for row in pictures]) == pytest.approx(result["metrics"]["mad"]["mean"])
    assert (tmp_path / "out" / "evaluation.html").is_file()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["evaluation.html", "evaluation.json"]


def test_the_network_itself_stands_beside_its_artifact(artifact: Path, portraits: Path, tmp_path: Path, capsys) -> None:
    arguments = ["evaluate", str(artifact), str(artifact), "--reference", "-d", str(portraits), "-o", str(tmp_path)]
    assert run([*arguments, "--json", "-q"]) == 0
    _, again, network = json.loads(capsys.readouterr().out)["results"]
    assert network["device"].startswith("cpu (PyTorch")
    assert again["difference"]["mad"] == {"mean": 0.0, "ci95": [0.0, 0.0], "images": 3}
    assert again["source"]["artifact"] == str(artifact) and network["source"]["network"] == "ldn_fb"
    assert abs(network["difference"]["mad"]["mean"]) < 1e-4


def test_the_table_names_every_metric(artifact: Path, portraits: Path, tmp_path: Path, capsys) -> None:
    assert run(["evaluate", str(artifact), "-d", str(portraits), "-o", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert all(metric.title in shown.out for metric in METRICS)
    assert "picture 3 of 3" in shown.err


@pytest.mark.parametrize(
    ("data", "says"), [("nowhere", "there is no such folder"), ("image", "holds no data set")], ids=["absent", "bare"]
)
def test_what_is_no_data_set_exits_2(artifact: Path, portraits: Path, data: str, says: str, capsys) -> None:
    assert run(["evaluate", str(artifact), "-d", str(portraits / data)]) == 2
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err


def test_what_is_no_artifact_exits_2(portraits: Path, capsys) -> None:
    assert run(["evaluate", str(portraits), "-d", str(portraits)]) == 2
    assert "not a folder made by" in capsys.readouterr().err


def test_an_unwritable_output_exits_2_and_leaves_nothing(
    artifact: Path, portraits: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "file").write_text("mine")
    assert run(["evaluate", str(artifact), "-d", str(portraits), "-o", str(tmp_path / "file" / "out")]) == 2
    assert "choose another --output" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_weights_without_the_network_they_are_for_are_refused(artifact: Path, portraits: Path, capsys) -> None:
    assert run(["evaluate", str(artifact), "-d", str(portraits), "-c", "weights.pt"]) == 2
    assert "goes with --reference" in capsys.readouterr().err


def test_a_bad_picture_and_a_bad_matte_exit_2_and_are_named(artifact: Path, portraits: Path, tmp_path, capsys) -> None:
    for kind, bad in (("image", "p1.jpg"), ("alpha", "p1.png")):
        data = tmp_path / kind
        shutil.copytree(portraits, data)
        (data / kind / bad).write_bytes(b"junk")
        assert run(["evaluate", str(artifact), "-d", str(data), "-o", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert bad in err and "defect" not in err
    assert not (tmp_path / "out").exists()
