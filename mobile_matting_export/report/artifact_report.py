"""Write report.html, the page that shows what an artifact is and how near it is to PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mobile_matting_export.composite import composite, parse_background
from mobile_matting_export.images import from_output
from mobile_matting_export.matte import DEFAULT_BACKGROUND, read_image_spec
from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.report.int8_section import int8_section
from mobile_matting_export.report.page import (
    THUMBNAIL,
    fit_within,
    render_page,
    shrink,
    to_data_uri,
    to_grey,
    write_page,
)
from mobile_matting_export.report.run_snippet import run_snippet

if TYPE_CHECKING:  # only named here; parity.py brings the whole toolchain
    from mobile_matting_export.parity import Case

# a page stays small enough to be mailed
_MOST_CASES = 8

_RUNTIMES = {"tflite": "LiteRT", "ncnn": "ncnn", "onnx": "onnxruntime"}


def write_artifact_report(
    path: Path,
    manifest: Mapping[str, Any],
    cases: Sequence[Case],
    mattes: Sequence[np.ndarray],
    worst: tuple[Case, np.ndarray] | None = None,
) -> None:
    """Write one self-contained page; the same arguments give the same bytes.

    Args:
        path: the .html file, replaced when it exists.
        manifest: schema mmexport.manifest/1.
        cases: the verification frames, with PyTorch's alpha.
        mattes: the artifact's alpha of each case, float32 1x1xHxW, in [0, 1].
        worst: of an int8 artifact, the held-out frame with the largest error, and the artifact's alpha there.
    """
    spec = read_image_spec(manifest)
    shown = _choose([case.name for case in cases], manifest["parity"]["worst"])
    parity, limits = manifest["parity"], manifest["parity"]["limits"]
    values = dict(manifest) | {
        "input_size": _input_size(manifest["inputs"][0]),
        "total_bytes": sum(file["bytes"] for file in manifest["files"]),
        "runtime": _RUNTIMES[manifest["target"].partition("-")[0]],
        "made_for": _made_for(manifest["mode"]),
        "elsewhere": _ran_elsewhere(manifest["mode"], parity["device"]),
        "gauges": [
            _gauge("max error", parity["max_abs"], limits["max_abs"]),
            _gauge("mean absolute difference", parity["mad"], limits["mad"]),
            *(_gauge(f"max error of {s['name']}", s["max_abs"], limits["max_abs"]) for s in parity.get("states", ())),
        ],
        "head": _describe_head(manifest["network"]["head"]),
        "done": [step for step in manifest["rewrites"] if step["changes"]],
        "idle": [step for step in manifest["rewrites"] if not step["changes"]],
        "cases": [_show(cases[index], mattes[index], spec, limits["max_abs"]) for index in shown],
        "int8": None if worst is None else int8_section(manifest, worst, spec),
        "contract": describe_contract(manifest),
        "snippet": run_snippet(manifest),
    }
    write_page(path, render_page("artifact_report.html.j2", values))


def describe_contract(manifest: Mapping[str, Any]) -> str:
    """What an application must feed and gets back: ``name = value`` lines to copy."""
    image, *states = manifest["inputs"]
    lines = [
        "# value = (pixel - mean) * scale, pixel 0..255, one number per channel in the order of color",
        f'input  = "{image["name"]}"    # {_tensor(image)}',
        f'color  = "{image["color"]}"',
        f"mean   = [{_numbers(image['mean'])}]",
        f"scale  = [{_numbers(image['scale'])}]",
        f'resize = "{image["resize"]}"' + _bars(image),
    ]
    lines += [
        f'state  = "{state["name"]}"    # {_tensor(state)}: {state["source"]} of the frame before, '
        f"{state['initial']:g} at first"
        for state in states
    ]
    ranges = {out["name"]: ", 0..1" if "range" in out else "" for out in manifest["outputs"]}
    lines += [f'output = "{out["name"]}"    # {_tensor(out)}{ranges[out["name"]]}' for out in manifest["outputs"]]
    return "\n".join(lines)


def _made_for(mode: str) -> str:
    """What computes it in the application: the accelerator mode in words."""
    return {"gpu": "GPU", "gpu-fp32": "GPU, computing in float32"}.get(mode, "CPU")


def _ran_elsewhere(mode: str, device: str) -> bool:
    """Whether a file made for a GPU was verified on a CPU: this machine has no GPU that its runtime could use."""
    return mode.startswith("gpu") and device.startswith("cpu")


def _choose(names: Sequence[str], worst: str) -> list[int]:
    """The first cases, with the worst one in place of the last where it is not among them."""
    chosen = list(range(min(len(names), _MOST_CASES)))
    if worst in names and (index := names.index(worst)) not in chosen:
        chosen[-1] = index
    return chosen


def _show(case: Case, matte: np.ndarray, spec: ImageSpec, limit: float) -> dict[str, Any]:
    # in the picture's aspect, as fine as the network saw it
    shape = fit_within(case.picture.shape, max(matte.shape[2:]))
    picture = shrink(case.picture, max(matte.shape[2:]))
    alpha = from_output(matte, spec, shape)
    difference = np.abs(matte.astype(np.float64) - case.alpha.astype(np.float64))
    behind = parse_background(DEFAULT_BACKGROUND, picture.shape)
    return {
        "name": case.name,
        "max_abs": float(difference.max()),
        "mad": float(difference.mean()),
        "picture": to_data_uri(shrink(picture)),
        "reference": to_data_uri(to_grey(shrink(from_output(case.alpha, spec, shape)))),
        "matte": to_data_uri(to_grey(shrink(alpha))),
        "difference": to_data_uri(_scale_to(limit, difference, spec, fit_within(shape, THUMBNAIL))),
        "composite": to_data_uri(shrink(composite(picture, np.nan_to_num(alpha), behind))),
    }


def _scale_to(limit: float, difference: np.ndarray, spec: ImageSpec, shape: tuple[int, int]) -> np.ndarray:
    """uint8 of ``shape``, 255 at ``limit``: the largest difference around each pixel, so shrinking hides no peak."""
    side = max(math.ceil(full / small) for full, small in zip(difference.shape[2:], shape, strict=True))
    # a limit of 0 lets nothing pass: every difference is white
    shares = np.nan_to_num(difference[0, 0] / max(limit, np.finfo(np.float32).tiny), nan=1.0)
    scaled = shares.clip(0, 1).astype(np.float32)
    peaks = np.asarray(cv2.dilate(scaled, np.ones((side, side), np.uint8)), np.float32)
    return to_grey(from_output(peaks[np.newaxis, np.newaxis], spec, shape))


def _gauge(name: str, value: float, limit: float) -> dict[str, Any]:
    share = value / limit if limit > 0 and math.isfinite(value) else 1.0
    return {"name": name, "value": value, "limit": limit, "percent": f"{100 * min(share, 1.0):.1f}"}


def _describe_head(head: Mapping[str, Any]) -> str:
    """Where the alpha came from: ``logits, channel 1``, of which result where there are several."""
    channel = f", channel {head['foreground']}" if head["kind"] in ("logits", "probabilities") else ""
    result = "" if head["output"] is None else f", result {head['output']} of forward"
    return f"{head['kind']}{channel}{result}"


def _input_size(image: Mapping[str, Any]) -> str:
    _, *rest = image["shape"]
    height, width = rest[:2] if image["layout"] == "NHWC" else rest[1:]
    return f"{height} × {width}"


def _tensor(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['dtype']} {'x'.join(map(str, tensor['shape']))} {tensor['layout']}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(repr(float(value)) for value in values)


def _bars(image: Mapping[str, Any]) -> str:
    if image["resize"] == "stretch":
        return "    # to the input's height and width, aspect not kept"
    return f"    # aspect kept, centred, bars of pixel value {image['fill']}"
