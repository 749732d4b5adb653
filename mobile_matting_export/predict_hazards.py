"""Says where half precision would break a TFLite file: of an artifact, or of a file that is being made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import UsageError
from mobile_matting_export.formats.tflite.find_fp16_hazards import find_fp16_hazards
from mobile_matting_export.formats.tflite.read_graph import read_graph
from mobile_matting_export.images import load_picture, sample_pictures, to_input
from mobile_matting_export.inspection import Graph, Hazard
from mobile_matting_export.matte import make_inputs
from mobile_matting_export.networks.spec import ImageSpec


def predict_hazards(artifact: Artifact) -> tuple[Hazard, ...]:
    """The hazards of an artifact's TFLite file on the bundled photographs; none for other formats.

    Raises:
        UsageError: the manifest does not say how a picture enters, or the file is damaged.
    """
    if artifact.files[0].suffix != ".tflite":
        return ()
    feeds = [make_inputs(artifact, load_picture(picture)) for picture in sample_pictures()]
    return find_fp16_hazards(artifact.files[0], feeds)


def predict_file_hazards(path: Path, graph: Graph, image: ImageSpec) -> tuple[Hazard, ...]:
    """The hazards of a TFLite file without a manifest, on the bundled photographs entered as ``image`` says.

    Args:
        path: the file.
        graph: its main graph.
        image: how a picture becomes its one input.

    Raises:
        UsageError: the file does not take one picture of three channels, or the runtime refuses it.
    """
    shapes = [graph.tensors[index].shape or () for index in graph.inputs]
    sizes = [(shape[1:3] if shape[3] == 3 else shape[2:]) for shape in shapes if len(shape) == 4 and 3 in shape[1::2]]
    if len(shapes) != 1 or not sizes or min(sizes[0]) < 1:
        told = ", ".join("x".join(map(str, shape)) or "?" for shape in shapes)
        raise UsageError(
            f"{path} takes {told}, not one picture of three channels: its hazards cannot be looked for; "
            "drop --mean, --scale and --color"
        )
    (height, width) = sizes[0]
    feeds = [{"image": to_input(load_picture(picture), image, (height, width))} for picture in sample_pictures()]
    return find_fp16_hazards(path, feeds)


def describe_hazards(path: Path, feeds: Sequence[Mapping[str, np.ndarray]]) -> str | None:
    """One sentence: how many hazards the rewrites left in ``path``, and which is the first; None where none is left."""
    hazards = find_fp16_hazards(path, feeds)
    if not hazards:
        return None
    first, op = hazards[0], read_graph(path).ops[hazards[0].op]
    place = f", from {op.module}" if op.module else ""
    others = f" and {len(hazards) - 1} more" if len(hazards) > 1 else ""
    return (
        f"half precision may fail in {path.name}: {first.kind} at {op.kind} {op.number}{place}{others}: "
        f"{first.says} ({first.where}). What helps: {first.remedy}. `mmexport inspect` lists all"
    )
