"""Write the few lines of Python that run an artifact without mmexport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

# what the ncnn sessions of formats/ncnn set: phones take fp16 on their own where it is not switched off
_NCNN_FP32 = "net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False"


def run_snippet(manifest: Mapping[str, Any]) -> str:
    """A complete script: ``portrait.jpg`` in, ``alpha.png`` out, to be started in the artifact's folder.

    The picture enters as the first frame and by the manifest's contract; the matte leaves at the network's size.

    Args:
        manifest: schema mmexport.manifest/1, of any target.
    """
    imports, run = _RUNNERS[manifest["target"].partition("-")[0]]
    lines = ["import numpy as np", "from PIL import Image, ImageOps", imports, ""]
    lines += [*_prepare(manifest["inputs"]), "", *run(manifest), ""]
    lines += ['Image.fromarray(np.uint8(alpha * 255 + 0.5)).save("alpha.png")']
    return "\n".join(lines)


def _prepare(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines that bind a variable of its own name for every input, with the batch axis."""
    image, *states = inputs
    height, width = image["shape"][1:3] if image["layout"] == "NHWC" else image["shape"][2:]
    if image["resize"] == "stretch":
        fit = f"picture.resize(({width}, {height}), Image.Resampling.BOX)"
    else:
        bars = ", ".join([str(image["fill"])] * 3)
        fit = f"ImageOps.pad(picture, ({width}, {height}), Image.Resampling.BOX, color=({bars}))"
    pixels = f"np.asarray(picture, np.{image['dtype']})" + ("[:, :, ::-1]" if image["color"] == "BGR" else "")
    if set(image["mean"]) != {0.0} or set(image["scale"]) != {1.0}:
        pixels = f"({pixels} - {_per_channel(image['mean'])}) * {_per_channel(image['scale'])}"
    axes = "[np.newaxis]" if image["layout"] == "NHWC" else ".transpose(2, 0, 1)[np.newaxis]"
    lines = [
        'picture = ImageOps.exif_transpose(Image.open("portrait.jpg")).convert("RGB")',
        f"picture = {fit}",
        f"{image['name']} = {pixels}",
        f"{image['name']} = np.ascontiguousarray({image['name']}{axes})",
    ]
    lines += [
        f"{state['name']} = np.full({tuple(state['shape'])}, {state['initial']!r}, np.float32)"
        f"  # then the {state['source']} of the frame before"
        for state in states
    ]
    return lines


def _run_tflite(manifest: Mapping[str, Any]) -> list[str]:
    arguments = ", ".join(f"{tensor['name']}={tensor['name']}" for tensor in manifest["inputs"])
    return [
        f'matte = Interpreter(model_path="{_file(manifest, ".tflite")}").get_signature_runner()',
        f'alpha = matte({arguments})["alpha"][0, :, :, 0]',
    ]


def _run_onnx(manifest: Mapping[str, Any]) -> list[str]:
    feed = ", ".join(f'"{tensor["name"]}": {tensor["name"]}' for tensor in manifest["inputs"])
    return [
        f'session = onnxruntime.InferenceSession("{_file(manifest, ".onnx")}")',
        f'alpha = session.run(["alpha"], {{{feed}}})[0][0, 0]',
    ]


def _run_ncnn(manifest: Mapping[str, Any]) -> list[str]:
    options = ["net.opt.use_vulkan_compute = True"] if manifest["accelerator"] == "gpu" else []
    if manifest["mode"] in ("cpu", "gpu-fp32"):
        options.append(f"{_NCNN_FP32}  # as verified")
    return [
        "net = ncnn.Net()",
        *options,
        f'net.load_param("{_file(manifest, ".param")}")',
        f'net.load_model("{_file(manifest, ".bin")}")',
        "with net.create_extractor() as extractor:",
        *(f'    extractor.input("{t["name"]}", ncnn.Mat({t["name"]}[0]).clone())' for t in manifest["inputs"]),
        '    alpha = np.array(extractor.extract("alpha")[1])[0]',
    ]


_RUNNERS = {
    "tflite": ("from ai_edge_litert.interpreter import Interpreter", _run_tflite),
    "onnx": ("import onnxruntime", _run_onnx),
    "ncnn": ("import ncnn", _run_ncnn),
}


def _file(manifest: Mapping[str, Any], suffix: str) -> str:
    return next(entry["path"] for entry in manifest["files"] if PurePosixPath(entry["path"]).suffix == suffix)


def _per_channel(values: Sequence[float]) -> str:
    """One number where all channels share it."""
    numbers = [repr(float(value)) for value in values]
    if len(set(numbers)) == 1:
        return numbers[0]
    return f"np.array([{', '.join(numbers)}], np.float32)"
