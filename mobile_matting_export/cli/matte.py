"""``mmexport matte``: look at what the artifact makes of your pictures."""

from __future__ import annotations

from pathlib import Path

import click

from mobile_matting_export.cli.common import Output, output_options

_KINDS = ("alpha", "cutout", "composite")


@click.command()
@click.argument("artifact")
@click.argument("images", nargs=-1, required=True)
@click.option("--output", "-o", "output_folder", default="mattes", show_default=True, help="Folder for the PNG files.")
@click.option("--background", help="Colour (name or #rrggbb) or picture behind the composite.")
@output_options
def matte(artifact: str, images: tuple[str, ...], output_folder: str, background: str | None, output: Output) -> None:
    """Matte IMAGES, files or folders, with ARTIFACT: alpha, cut-out and composite PNGs at each picture's own size.

    \b
    Example:
      mmexport matte build/mmnet/tflite-gpu-fp16 selfie.jpg --background teal
    """
    from mobile_matting_export.artifact import read_artifact
    from mobile_matting_export.matte import collect_pictures, write_mattes

    opened = read_artifact(Path(artifact))
    pictures = collect_pictures([Path(image) for image in images])
    with output.progress(total=1) as announce:
        announce(f"matting {len(pictures)} {'picture' if len(pictures) == 1 else 'pictures'} with {opened.title}")
        written = write_mattes(opened, pictures, Path(output_folder), background)
    output.result({"pictures": written}, lambda: "\n".join(row[kind] for row in written for kind in _KINDS))
