"""Write the few lines of Python that run an artifact without mmexport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

# what the ncnn sessions of formats/ncnn set: phones take fp16 on their own where it is not switched off
_NCNN_FP32 = "net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False"

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


def run_snippet(manifest: Mapping[str, Any]) -> str:
    """A complete script: ``portrait.jpg`` in, ``alpha.png`` out, to be started in the artifact's folder.

    The picture enters as the first frame and by the manifest's contract; the matte leaves at the network's size.
    States that the network returns end under the names of the inputs that they are on the next frame.

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
    stored = image.get("quantization")
    pixels = f"np.asarray(picture, np.{'float32' if stored else image['dtype']})" + (
        "[:, :, ::-1]" if image["color"] == "BGR" else ""
    )
    if set(image["mean"]) != {0.0} or set(image["scale"]) != {1.0}:
        pixels = f"({pixels} - {_per_channel(image['mean'])}) * {_per_channel(image['scale'])}"
    axes = "[np.newaxis]" if image["layout"] == "NHWC" else ".transpose(2, 0, 1)[np.newaxis]"
    lines = [
        'picture = ImageOps.exif_transpose(Image.open("portrait.jpg")).convert("RGB")',
        f"picture = {fit}",
        f"{image['name']} = {pixels}",
        f"{image['name']} = np.ascontiguousarray({image['name']}{axes})",
    ]
    if stored:
        lowest, highest = _LIMITS[image["dtype"]]
        lines.append(f"steps = np.rint({image['name']} / {stored['scale']!r}) + {stored['zero_point']}")
        lines.append(f"{image['name']} = np.{image['dtype']}(np.clip(steps, {lowest}, {highest}))")
    lines += [
        f"{state['name']} = np.full({tuple(state['shape'])}, {state['initial']!r}, np.float32)"
        f"  # then the {state['source']} of the frame before"
        for state in states
    ]
    return lines


def _run_tflite(manifest: Mapping[str, Any]) -> list[str]:
    arguments = ", ".join(f"{tensor['name']}={tensor['name']}" for tensor in manifest["inputs"])
    load = f'matte = Interpreter(model_path="{_file(manifest, ".tflite")}").get_signature_runner()'
    returned = _returned(manifest)
    stored = manifest["outputs"][0].get("quantization") if "outputs" in manifest else None
    restored = [f"alpha = (np.float32(alpha) - {stored['zero_point']}) * {stored['scale']!r}"] if stored else []
    if not returned:
        return [load, f'alpha = matte({arguments})["alpha"][0, :, :, 0]', *restored]
    return [
        load,
        f"results = matte({arguments})",
        'alpha = results["alpha"][0, :, :, 0]',
        *restored,
        *(f'{name} = results["{source}"]  # for the next frame' for name, source in returned.items()),
    ]


def _run_onnx(manifest: Mapping[str, Any]) -> list[str]:
    feed = ", ".join(f'"{tensor["name"]}": {tensor["name"]}' for tensor in manifest["inputs"])
    load = f'session = onnxruntime.InferenceSession("{_file(manifest, ".onnx")}")'
    returned = _returned(manifest)
    if not returned:
        return [load, f'alpha = session.run(["alpha"], {{{feed}}})[0][0, 0]']
    names = ", ".join(f'"{name}"' for name in ("alpha", *returned.values()))
    return [
        load,
        f"alpha, {', '.join(returned)} = session.run([{names}], {{{feed}}})  # states for the next frame",
        "alpha = alpha[0, 0]",
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
        *(
            f'    {name} = np.array(extractor.extract("{source}")[1])[np.newaxis]  # for the next frame'
            for name, source in _returned(manifest).items()
        ),
    ]


def _returned(manifest: Mapping[str, Any]) -> dict[str, str]:
    """State inputs that the file itself gives new values of: input -> output."""
    return {state["name"]: state["source"] for state in manifest["inputs"][1:] if state["source"] != "alpha"}


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
