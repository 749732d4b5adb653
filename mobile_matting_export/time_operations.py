"""Says where a file's time goes: measured where a runtime can be asked, else counted, and then with the reason."""

from __future__ import annotations

from pathlib import Path

from mobile_matting_export.formats.ncnn.time_layers import time_layers
from mobile_matting_export.inspection import Inspection, Times

# op by op the parts of ldn_fb, mmnet and portraitnet_video add up to 1.2, 1.7 and 1.9 of the whole
_NOT_IN_PARTS = (
    "the time of each operation is not measured: XNNPACK runs them as one and joins neighbours, and operations timed "
    "alone add up to 1.2 to 1.9 times the whole. The shares are counted multiply-adds; time goes to copies, too"
)


def time_operations(inspection: Inspection) -> Times:
    """Times of the inspected file's operations on this machine's CPU, or why there are none.

    Raises:
        UsageError: ncnn does not load the files. ConversionError: the ncnn runtime is not installed.
    """
    graph = inspection.graph
    if graph.format != "ncnn":
        return Times(why_not=_NOT_IN_PARTS)
    if len(inspection.files) < 2:
        return Times(why_not="the time of each layer is not measured: there are no weights beside the .param")
    shapes = {graph.tensors[index].name: graph.tensors[index].shape for index in graph.inputs}
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    if len(known) < len(shapes):
        return Times(why_not="the time of each layer is not measured: the input's size is not known, give --size HxW")
    parts, whole = time_layers(Path(inspection.files[0]), Path(inspection.files[1]), known)
    return Times(parts, whole)
