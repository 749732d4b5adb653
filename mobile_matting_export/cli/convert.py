"""``mmexport convert``: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mobile_matting_export.cli.common import NumbersType, Output, SizeType, output_options
from mobile_matting_export.cli.config import DESCRIPTION_KEYS
from mobile_matting_export.cli.int8_options import int8_options

if TYPE_CHECKING:
    from mobile_matting_export.network import InputKind
    from mobile_matting_export.networks.spec import ImageSpec
    from mobile_matting_export.quantization.io_kind import IoKind
    from mobile_matting_export.quantization.ranges import Method

DEFAULT_NETWORK = "mmnet"


@click.command()
@click.argument("network", required=False, envvar="MMEXPORT_NETWORK")
@click.option(
    "--target",
    "-t",
    "target",
    multiple=True,
    envvar="MMEXPORT_TARGET",
    help="tflite-cpu, tflite-gpu, ncnn-cpu, ncnn-vulkan, onnx; at least one, may be repeated.",
)
@click.option(
    "--checkpoint",
    "-c",
    envvar="MMEXPORT_CHECKPOINT",
    help=".pt .pth .ckpt .safetensors; default: bundled weights.",
)
@click.option(
    "--precision",
    "-p",
    envvar="MMEXPORT_PRECISION",
    help="fp32, fp16, int8 or w8 (8-bit weights, float arithmetic); default: the target's own.",
)
@click.option("--size", type=SizeType(), envvar="MMEXPORT_SIZE", help="Input size; default: the network's usual one.")
@click.option("--mean", type=NumbersType(), envvar="MMEXPORT_MEAN", help="Subtracted from pixels 0..255, per channel.")
@click.option(
    "--scale", type=NumbersType(), envvar="MMEXPORT_SCALE", help="Factor after the mean, per channel, e.g. 1/255."
)
@click.option(
    "--color",
    type=click.Choice(["RGB", "BGR"], case_sensitive=False),
    metavar="[RGB|BGR]",
    envvar="MMEXPORT_COLOR",
    help="Channel order of the network.",
)
@click.option(
    "--resize",
    type=click.Choice(["stretch", "letterbox"]),
    envvar="MMEXPORT_RESIZE",
    help="How pictures meet the input size.",
)
@click.option("--fill", type=click.IntRange(0, 255), envvar="MMEXPORT_FILL", help="Pixel value of letterbox bars.")
@click.option(
    "--input",
    "input_kind",
    type=click.Choice(["float", "pixels", "uint8"]),
    default="float",
    show_default=True,
    envvar="MMEXPORT_INPUT",
    help="What the file takes: normalized floats; RGB 0..255 as floats; as bytes. The last two normalize inside.",
)
@click.option(
    "--head",
    type=click.Choice(["alpha", "logit", "logits", "probabilities"]),
    envvar="MMEXPORT_HEAD",
    help="What your own network returns; default: found by running it on a sample picture.",
)
@click.option(
    "--foreground",
    type=click.IntRange(0, 1),
    default=1,
    envvar="MMEXPORT_FOREGROUND",
    help="Channel of the person where your own network returns two; default 1.",
)
@int8_options
@click.option("--images", envvar="MMEXPORT_IMAGES", help="Folder of pictures to verify on; default: bundled samples.")
@click.option(
    "--max-error",
    type=click.FloatRange(min=0),
    envvar="MMEXPORT_MAX_ERROR",
    help="Overrides the target's limit on the largest error.",
)
@click.option(
    "--max-mad",
    type=click.FloatRange(min=0),
    envvar="MMEXPORT_MAX_MAD",
    help="Overrides the target's limit on the mean error.",
)
@click.option(
    "--slim",
    type=click.FloatRange(min=0, min_open=True),
    metavar="TOL",
    envvar="MMEXPORT_SLIM",
    help="Not exact: zero weights below TOL and drop the channels they leave empty, within the limits.",
)
@click.option(
    "--backend",
    type=click.Choice(["litert-torch", "onnx2tf"]),
    default="litert-torch",
    show_default=True,
    envvar="MMEXPORT_BACKEND",
    help="Converter for TFLite targets; onnx2tf is a second opinion (extra [tensorflow]).",
)
@click.option(
    "--output",
    "-o",
    "output_folder",
    default="build",
    show_default=True,
    envvar="MMEXPORT_OUTPUT",
    help="Artifacts go to OUTPUT/<network>/<target>-<precision>.",
)
@click.option(
    "--cache",
    metavar="DIR|off",
    envvar="MMEXPORT_CACHE",
    help="Where earlier results are kept and found; default: mmexport in the user's cache folder.",
)
@click.option(
    "--allow-fallback",
    is_flag=True,
    envvar="MMEXPORT_ALLOW_FALLBACK",
    help="tflite-gpu: make the file although operations would leave the GPU; else that exits with 3.",
)
@click.option(
    "--autotune",
    is_flag=True,
    envvar="MMEXPORT_AUTOTUNE",
    help="Time other forms of the graph and keep the fastest; files may differ between machines.",
)
@click.option(
    "--device",
    help="Where --autotune times: a phone's serial as `adb devices` has it (with a runner, see `mmexport runners`); "
    "default: host, this computer, for CPU targets.",
)
@click.option("--force", is_flag=True, help="Replace output folders that mmexport did not make.")
@output_options
def convert(
    network: str | None,
    target: tuple[str, ...],
    checkpoint: str | None,
    precision: str | None,
    size: tuple[int, int] | None,
    input_kind: InputKind,
    head: str | None,
    foreground: int,
    calibration: str | None,
    quality_budget: str | None,
    ranges: Method | None,
    tune: float | None,
    recipe: str | None,
    io: IoKind | None,
    images: str | None,
    max_error: float | None,
    max_mad: float | None,
    slim: float | None,
    backend: str,
    output_folder: str,
    cache: str | None,
    output: Output,
    allow_fallback: bool,
    autotune: bool,
    device: str | None,
    force: bool,
    **image_flags: Any,
) -> None:
    """Convert NETWORK to one verified artifact per target.

    NETWORK is a name of `mmexport networks` or path/to/file.py:callable returning an nn.Module;
    without it, the one that mmexport.toml names, else mmnet.

    \b
    Examples:
      mmexport convert --target tflite-gpu
      mmexport convert modnet -c modnet.ckpt -t tflite-gpu -t ncnn-cpu --size 256x256
      mmexport convert mmnet -t tflite-gpu --autotune --device R5CX
      mmexport convert my_network.py:build -t onnx --size 192x192 --mean 127.5 --scale 1/127.5
    """
    from mobile_matting_export.cli.read_int8_wish import read_int8_wish

    _raise_config_error()
    # before the imports that take seconds: what a flag says wrongly is said at once
    int8 = read_int8_wish(precision, calibration, quality_budget, ranges, recipe, tune, io)

    from mobile_matting_export.alpha_network import describe_head
    from mobile_matting_export.cli.choose_form_timer import choose_form_timer
    from mobile_matting_export.cli.convert_output import list_details, summarize, tabulate
    from mobile_matting_export.cli.refuse_flags import refuse_flags
    from mobile_matting_export.convert import Job, convert_network
    from mobile_matting_export.errors import UsageError
    from mobile_matting_export.network import load_network
    from mobile_matting_export.result_cache import open_cache
    from mobile_matting_export.targets import TARGETS, find_target, slimmed

    if not target:
        raise UsageError(f"name at least one --target: {', '.join(row.name for row in TARGETS)}")
    names = [name.strip() for given in target for name in given.split(",")]
    rows = tuple(slimmed(find_target(name), slim) for name in dict.fromkeys(names))
    refuse_flags(rows, backend)
    if device is not None and not autotune:
        raise UsageError("--device says where --autotune times forms: give --autotune, or leave --device away")
    name = network or DEFAULT_NETWORK
    if _names_another_network_than_the_config():
        given = click.get_current_context()
        kept = {
            key: given.params[key] for key in DESCRIPTION_KEYS if given.get_parameter_source(key) not in _CONFIGURED
        }
        checkpoint, size, head = kept.get("checkpoint"), kept.get("size"), kept.get("head")
        foreground = kept.get("foreground", 1)
        image_flags = {key: kept.get(key) for key in image_flags}
    job = Job(
        targets=rows,
        output=Path(output_folder),
        precision=precision,
        max_error=max_error,
        max_mad=max_mad,
        images=None if images is None else Path(images),
        backend=backend,
        overwrite="anything" if force else "ours",
        input=input_kind,
        fallback="allow" if allow_fallback else "refuse",
        cache=open_cache(cache),
        int8=int8,
        form_timer=choose_form_timer(device, rows) if autotune else None,
    )
    with output.progress(total=2 + len({row.rewrites for row in rows}) + 3 * len(rows)) as announce:
        loaded = load_network(
            name,
            None if checkpoint is None else Path(checkpoint),
            size,
            _image_spec(name, image_flags),
            head,
            foreground,
        )
        if ".py:" in name:
            announce(f"{name}: {describe_head(loaded.spec.head, loaded.spec.state)}")
        artifacts = convert_network(loaded, job, announce)
    for detail in list_details(artifacts):
        output.detail(detail)
    output.result({"artifacts": [summarize(artifact) for artifact in artifacts]}, lambda: tabulate(artifacts))


_CONFIGURED = (ParameterSource.DEFAULT_MAP, ParameterSource.DEFAULT)


def _raise_config_error() -> None:
    """Raise what reading mmexport.toml found wrong."""
    found = click.get_current_context().obj
    if isinstance(found, Exception):
        raise found


def _names_another_network_than_the_config() -> bool:
    context = click.get_current_context()
    configured = (context.default_map or {}).get("network")
    return configured is not None and context.params["network"] not in (None, configured)


def _image_spec(network: str, flags: dict[str, Any]) -> ImageSpec | None:
    """The registry's input contract with the given flags laid over it; None when no flag is given."""
    given = {key: value for key, value in flags.items() if value is not None}
    if not given:
        return None
    from mobile_matting_export.network import find_spec
    from mobile_matting_export.networks.spec import ImageSpec

    return replace(ImageSpec() if ".py:" in network else find_spec(network).image, **given)
