"""The report shows verdict, ledger and pictures, and is the same for the same artifact."""

from __future__ import annotations

import base64
import io
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobile_matting_export.parity import Case
from mobile_matting_export.report.artifact_report import describe_contract, write_artifact_report


def make_case(name: str, height: int = 90, width: int = 60) -> Case:
    random = np.random.default_rng(len(name))
    picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = np.zeros((1, 1, 64, 64), np.float32)
    alpha[..., 16:48, 16:48] = 1
    return Case(name, picture, {"image": np.zeros((1, 3, 64, 64), np.float32)}, alpha)


def make_manifest(**parity: Any) -> dict[str, Any]:
    image: dict[str, Any] = {"name": "image", "shape": [1, 64, 64, 3], "layout": "NHWC", "dtype": "float32"}
    image |= {"color": "BGR", "mean": [103.94, 116.78, 123.68], "scale": [0.017, 0.017, 0.017]}
    image |= {"resize": "letterbox", "fill": 9}
    alpha: dict[str, Any] = {"name": "alpha", "shape": [1, 64, 64, 1], "layout": "NHWC", "dtype": "float32"}
    state = alpha | {"name": "previous_alpha", "source": "alpha", "initial": 0.0}
    step = {"name": "fold_batchnorm", "exact": True, "changes": 105, "max_abs_error": 1.05e-5, "refusals": []}
    refused = {"name": "pin_upsample", "exact": True, "changes": 0, "max_abs_error": 0.0}
    return {
        "schema": "mmexport.manifest/1",
        "network": {
            "name": "net<1>",
            "source": "net",
            "params": 191_000,
            "macs": 326_000_000,
            "head": {"kind": "logits", "output": 2, "foreground": 1},
            "checkpoint": {"file": "net.safetensors", "sha256": "c" * 64},
        },
        "target": "tflite-gpu",
        "precision": "fp16",
        "accelerator": "gpu",
        "mode": "gpu-fp32",
        "backend": "tflite",
        "inputs": [image, state],
        "outputs": [alpha | {"range": [0, 1]}],
        "files": [{"path": "net_64x64_fp16.tflite", "bytes": 622_160, "sha256": "a" * 64}],
        "rewrites": [step, refused | {"refusals": ["resize_1: the size is <not> a constant"]}],
        "parity": {
            "images": 1,
            "max_abs": 0.0149,
            "mad": 0.000556,
            "psnr_db": 58.3,
            "worst": "first.jpg",
            "device": "cpu (XNNPACK), no GPU delegate on this machine",
            "limits": {"max_abs": 0.1, "mad": 0.002},
            "passed": True,
        }
        | parity,
        "cost": {"params": 190_000, "macs": 326_000_000, "ops": 255, "ops_by_type": {"CONV_2D": 57}},
        "tools": {"python": "3.11.7", "mmexport": "0.1.0", "torch": "2.13.0"},
    }


def write(tmp_path: Path, manifest: dict[str, Any], cases: list[Case], shift: float = 0.0) -> str:
    path = tmp_path / "report.html"
    write_artifact_report(path, manifest, cases, [np.clip(case.alpha + shift, 0, 1) for case in cases])
    return path.read_text(encoding="utf-8")


def images(page: str) -> list[np.ndarray]:
    sources = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]


def test_the_page_tells_verdict_ledger_ops_files_and_tools(tmp_path: Path) -> None:
    page = write(tmp_path, make_manifest(), [make_case("first.jpg")])
    text = unescape(page)
    assert "The same matte" in text and 'class="verdict"' in page
    for words in ("0.0149", "limit 0.1", "0.000556", "limit 0.002", "58.3 dB", "cpu (XNNPACK)"):
        assert words in text, words
    for words in ("fold_batchnorm", ">105<", "0.0000105", "pin_upsample: resize_1: the size is <not> a constant"):
        assert words in text, words
    for words in (
        "CONV_2D",
        "622,160",
        "622 kB",
        "a" * 64,
        "c" * 64,
        "2.13.0",
        "326 M",
        "64 × 64",
        "logits, channel 1, result 2 of forward",
        "GPU, computing in float32",
    ):
        assert words in text, words
    assert "net&lt;1&gt;" in page and "net<1>" not in page


def test_what_ran_where_is_told_without_modes(tmp_path: Path) -> None:
    here = unescape(write(tmp_path, make_manifest(), [make_case("first.jpg")]))
    assert "on cpu (XNNPACK), no GPU delegate on this machine, which is not what it is made for" in here
    assert "gpu-fp32" not in here
    for mode, device, made_for in (("cpu", "cpu (XNNPACK)", "CPU"), ("gpu", "vulkan: a card", "GPU")):
        manifest = make_manifest(device=device) | {"mode": mode}
        page = write(tmp_path, manifest, [make_case("first.jpg")])
        assert f"<dt>made for</dt><dd>{made_for}</dd>" in page and f"<dd>{device}</dd>" in page
        assert "not what it is made for" not in page


def test_a_float_artifact_has_no_int8_part(tmp_path: Path) -> None:
    assert "<h2>int8</h2>" not in write(tmp_path, make_manifest(), [make_case("first.jpg")])


def test_a_missed_limit_is_not_praised(tmp_path: Path) -> None:
    page = write(tmp_path, make_manifest(passed=False, max_abs=0.5), [make_case("first.jpg")])
    assert "Not the same matte" in page and 'class="verdict missed"' in page and "width:100.0%" in page


def test_equal_mattes_have_an_infinite_psnr(tmp_path: Path) -> None:
    page = write(tmp_path, make_manifest(psnr_db=None, max_abs=0.0, mad=0.0), [make_case("first.jpg")])
    assert "PSNR infinite" in page


def test_every_case_brings_five_small_pictures_in_its_aspect(tmp_path: Path) -> None:
    cases = [make_case("first.jpg"), make_case("second.jpg", 300, 900)]
    shown = images(write(tmp_path, make_manifest(images=2), cases))
    assert len(shown) == 10
    # no finer than the network saw it, here 64 pixels
    assert {image.shape[:2] for image in shown[:5]} == {(64, 43)}
    assert {image.shape[:2] for image in shown[5:]} == {(21, 64)}


@pytest.mark.parametrize(("limit", "grey"), [(0.1, 128), (0.2, 64), (0.05, 255), (0.01, 255), (0.0, 255)])
def test_the_difference_is_white_at_the_limit(tmp_path: Path, limit: float, grey: int) -> None:
    manifest = make_manifest(limits={"max_abs": limit, "mad": 0.002})
    page = write(tmp_path, manifest, [make_case("first.jpg")], shift=0.05)
    difference = images(page)[3]
    # alpha 0 became 0.05, alpha 1 stayed
    assert difference[2, 2] == grey and difference[32, 21] == 0
    assert f"white = {limit:g}, the limit" in page


def test_rewrites_that_changed_nothing_share_a_line(tmp_path: Path) -> None:
    manifest = make_manifest()
    manifest["rewrites"].append(manifest["rewrites"][1] | {"name": "remove_no_ops", "refusals": []})
    page = write(tmp_path, manifest, [make_case("first.jpg")])
    assert "nothing to change: pin_upsample, remove_no_ops</td>" in page
    assert "nothing to change" not in write(
        tmp_path, manifest | {"rewrites": manifest["rewrites"][:1]}, [make_case("first.jpg")]
    )


def test_frames_are_explained_where_a_picture_makes_two(tmp_path: Path) -> None:
    manifest = make_manifest(images=2)
    assert "each picture makes two frames" in write(tmp_path, manifest, [make_case("first.jpg")])
    stateless = manifest | {"inputs": manifest["inputs"][:1]}
    assert "two frames" not in write(tmp_path, stateless, [make_case("first.jpg")])


def test_a_single_wrong_pixel_survives_shrinking(tmp_path: Path) -> None:
    case = make_case("first.jpg", 1000, 1000)
    large = np.zeros((1, 1, 1000, 1000), np.float32)
    wrong = large.copy()
    wrong[0, 0, 503, 501] = 0.1
    path = tmp_path / "report.html"
    write_artifact_report(path, make_manifest(), [Case(case.name, case.picture, case.inputs, large)], [wrong])
    difference = images(path.read_text(encoding="utf-8"))[3]
    assert difference.shape == (192, 192) and difference.max() == 255


def test_not_a_number_is_shown_white_and_does_not_fail(tmp_path: Path) -> None:
    case = make_case("first.jpg")
    path = tmp_path / "report.html"
    manifest = make_manifest(passed=False, max_abs=float("nan"), mad=float("nan"))
    write_artifact_report(path, manifest, [case], [np.full_like(case.alpha, np.nan)])
    shown = images(path.read_text(encoding="utf-8"))
    assert (shown[2] == 255).all() and (shown[3] == 255).all()


def test_at_most_eight_cases_are_shown_with_the_worst_among_them(tmp_path: Path) -> None:
    cases = [make_case(f"picture-{index}") for index in range(12)]
    page = write(tmp_path, make_manifest(images=12, worst="picture-10"), cases)
    assert len(images(page)) == 40
    assert "8 of 12 frames" in page
    assert "<b>picture-6</b>" in page and "<b>picture-10</b>" in page and "<b>picture-7</b>" not in page


def test_the_same_artifact_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path, make_manifest(), [make_case("first.jpg")])
    assert write(tmp_path, make_manifest(), [make_case("first.jpg")]) == first


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    page = write(tmp_path, make_manifest(), [make_case("first.jpg")])
    assert re.findall(r"https?://|<script|<link|@import|url\(", page) == []
    assert "prefers-color-scheme: dark" in page


def test_every_tag_is_closed(tmp_path: Path) -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("img", "meta", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(write(tmp_path, make_manifest(), [make_case("first.jpg")]))
    assert parser.open == []


def test_the_contract_can_be_copied() -> None:
    assert describe_contract(make_manifest()).splitlines() == [
        "# value = (pixel - mean) * scale, pixel 0..255, one number per channel in the order of color",
        'input  = "image"    # float32 1x64x64x3 NHWC',
        'color  = "BGR"',
        "mean   = [103.94, 116.78, 123.68]",
        "scale  = [0.017, 0.017, 0.017]",
        'resize = "letterbox"    # aspect kept, centred, bars of pixel value 9',
        'state  = "previous_alpha"    # float32 1x64x64x1 NHWC: alpha of the frame before, 0 at first',
        'output = "alpha"    # float32 1x64x64x1 NHWC, 0..1',
    ]


@pytest.mark.parametrize("target", ["tflite-cpu", "ncnn-vulkan", "onnx"])
def test_every_targets_runtime_is_named(tmp_path: Path, target: str) -> None:
    paths = ("net.tflite", "net.ncnn.param", "net.ncnn.bin", "net.onnx")
    manifest = make_manifest() | {"target": target}
    manifest["files"] = [manifest["files"][0] | {"path": path} for path in paths]
    runtime = {"tflite-cpu": "LiteRT", "ncnn-vulkan": "ncnn", "onnx": "onnxruntime"}[target]
    assert f"in {runtime} on cpu" in write(tmp_path, manifest, [make_case("first.jpg")])
