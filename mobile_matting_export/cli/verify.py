"""``mmexport verify``: is this file still the same matte as the network?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobile_matting_export.cli.common import Output, output_options

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@click.argument("artifact")
@click.option("--images", help="Folder of pictures; default: the bundled samples.")
@click.option("--checkpoint", "-c", help="The network's weights, where the manifest's path does not lead to them.")
@click.option("--network", help="path/to/file.py:callable, where the manifest's path does not lead to it.")
@output_options
def verify(artifact: str, images: str | None, checkpoint: str | None, network: str | None, output: Output) -> None:
    """Run ARTIFACT in its runtime and compare it with the original network.

    ARTIFACT is a folder made by `mmexport convert`, or a file in it. Exit code 4 when the alpha
    is further from the network's than the limits in the manifest.

    \b
    Example:
      mmexport verify build/mmnet/tflite-gpu-fp16 --images photos/
    """
    from mobile_matting_export.artifact import read_artifact
    from mobile_matting_export.errors import QualityError
    from mobile_matting_export.verify import verify_artifact

    opened = read_artifact(Path(artifact))
    with output.progress(total=2) as announce:
        result = verify_artifact(
            opened,
            None if images is None else Path(images),
            None if checkpoint is None else Path(checkpoint),
            network,
            announce,
        )
    output.result(result, lambda: _table(result, opened.manifest["precision"]))
    if not result["passed"]:
        limits = result["limits"]
        # no raise: the result is on stdout already, and with --json nothing may follow it there
        click.echo(
            f"mmexport: {opened.title} is not the network's matte: worst on {result['worst']}, "
            f"max error {result['max_abs']:.3g} (limit {limits['max_abs']:.3g}), "
            f"MAD {result['mad']:.3g} (limit {limits['mad']:.3g})",
            err=True,
        )
        raise click.exceptions.Exit(QualityError.exit_code)


def _table(result: dict[str, Any], precision: str) -> RenderableType:
    from rich.table import Table

    table = Table("pictures", "max error", "MAD", "PSNR", "worst", "device", "verdict", box=None, pad_edge=False)
    psnr = "equal" if result["psnr_db"] is None else f"{result['psnr_db']:.1f} dB"
    table.add_row(
        str(result["images"]),
        f"{result['max_abs']:.2e} (limit {result['limits']['max_abs']:.0e})",
        f"{result['mad']:.2e} (limit {result['limits']['mad']:.0e})",
        psnr,
        result["worst"],
        result["device"],
        _verdict(result, precision),
    )
    return table


def _verdict(result: dict[str, Any], precision: str) -> str:
    """Eight bits move edges, as far as the limits allow: that is not the same matte."""
    same = "within its limits" if precision in ("int8", "w8") else "same matte"
    return same if result["passed"] else f"NOT {same}"
