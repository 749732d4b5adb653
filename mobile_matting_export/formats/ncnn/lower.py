"""Write a graph as an ncnn network: trace, pnnx, then name, mask and check what pnnx wrote."""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path

from mobile_matting_export.errors import ConversionError, UsageError
from mobile_matting_export.formats.format import ExportGraph
from mobile_matting_export.formats.ncnn import converter, net
from mobile_matting_export.formats.ncnn.param import Layer, ParamFile, ParamSyntaxError, read
from mobile_matting_export.formats.ncnn.quantize import round_weights_to_half
from mobile_matting_export.formats.ncnn.refusals import place_of, refuse_silent_errors
from mobile_matting_export.graph.provenance import describe_place, nodes_of

PRECISIONS = ("fp32", "fp16")

# feature mask bits: never set 2 (no fp16 storage), which gives garbage on Vulkan behind InstanceNorm
_NO_FP16_ARITHMETIC = 1

_REMEDIES = {
    "argmax": "return the probability of the foreground instead of the label",
    "var": "write it as mean((x - mean(x))**2)",
    "std": "write it as sqrt(mean((x - mean(x))**2))",
    "where": "write the choice with relu, clamp or a multiplication",
    "gt": "write the comparison with relu, clamp or a multiplication",
    "slice": "slice with step 1 only; a strided convolution or pooling subsamples",
    "instance_norm": "fold the running statistics into the convolution before it",
    "_upsample_bilinear2d_aa": "resize without antialias",
}


def emit(graph: ExportGraph, precision: str, folder: Path, stem: str) -> tuple[Path, ...]:
    """Write ``<stem>.ncnn.param`` and ``<stem>.ncnn.bin`` into ``folder`` and return them.

    Blobs carry the names of the graph's inputs and outputs; each ``Input`` layer states its width,
    height and channels (keys 0, 1, 2), since resizes are burnt in for that size. ``fp16`` rounds weights
    of more than ``SMALL_WEIGHT`` elements and keeps the arithmetic around average pooling windows in fp32.
    The same graph gives the same bytes.

    Raises:
        ConversionError: the graph is one that pnnx converts wrongly or not at all; names the operator.
        UsageError: ``precision`` is neither ``fp32`` nor ``fp16``.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"ncnn files are written as {' or '.join(PRECISIONS)}, not as {precision!r}")
    refuse_silent_errors(graph)
    # beside the result: a disk that is full is then the one the caller named
    with tempfile.TemporaryDirectory(prefix=".pnnx-", dir=folder) as scratch:
        torchscript = Path(scratch) / "network.pt"
        _trace(graph, torchscript)
        shapes = [tuple(example.shape) for example in graph.inputs.values()]
        try:
            param, weights_path = converter.convert(torchscript, shapes)
        except converter.NotExpressible as error:
            place = place_of(graph.module.graph, error.complaint)
            raise converter.NotExpressible(error.complaint, place) from error
        try:
            network = read(param)
        except ParamSyntaxError as error:
            raise ConversionError(f"pnnx wrote a file that is no ncnn network: {error}") from error
        _refuse_unconverted(network, graph)
        network = _with_names_and_sizes(network, graph)
        weights = weights_path.read_bytes()
        if precision == "fp16":
            network = keep_box_filters_exact(network)
            weights = round_weights_to_half(network, weights)
        files = (folder / f"{stem}.ncnn.param", folder / f"{stem}.ncnn.bin")
        files[0].write_text(network.to_text(), encoding="ascii")
        files[1].write_bytes(weights)
    try:
        net.LoadedNet(files, net.strict_fp32).close()
    except UsageError as error:
        raise ConversionError(f"ncnn does not load what pnnx wrote: {error}") from error
    return files


def keep_box_filters_exact(network: ParamFile) -> ParamFile:
    """Return the network with fp16 arithmetic off at windowed average pooling and around it.

    ncnn on ARM sums a pooling window in fp16, and a box filter's variance E[x^2] - E[x]^2 cancels, so the
    pooling and the arithmetic layers directly before and after it (splits in between do not count) are
    computed in fp32. Global pooling is left alone: it weighs a whole map and no variance hangs on it.
    """
    producer = {blob: layer for layer in network.layers for blob in layer.outputs}
    readers: dict[str, list[Layer]] = {}
    for layer in network.layers:
        for blob in layer.inputs:
            readers.setdefault(blob, []).append(layer)

    def before(layer: Layer) -> list[Layer]:
        found = []
        for blob in layer.inputs:
            source = producer[blob]
            found += before(source) if source.type == "Split" else [source]
        return found

    def after(layer: Layer) -> list[Layer]:
        found = []
        for reader in (reader for blob in layer.outputs for reader in readers.get(blob, ())):
            found += after(reader) if reader.type == "Split" else [reader]
        return found

    masked: set[str] = set()
    for layer in network.layers:
        if _is_box_filter(layer):
            neighbours = [near for near in before(layer) + after(layer) if near.type in ("BinaryOp", "UnaryOp")]
            masked.update(near.name for near in [layer, *neighbours])
    return network.map(lambda layer: layer.with_features_off(_NO_FP16_ARITHMETIC) if layer.name in masked else layer)


def _is_box_filter(layer: Layer) -> bool:
    if layer.type != "Pooling":
        return False
    is_average, is_global, is_adaptive = (layer.setting(key) == 1 for key in (0, 4, 7))
    return is_average and not is_global and not is_adaptive


def _trace(graph: ExportGraph, path: Path) -> None:
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        # TorchScript is deprecated but the only input on which pnnx is right for every network measured
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        module = graph.module.eval()
        traced = torch.jit.trace(module, tuple(graph.inputs.values()), check_trace=False)
        # by way of memory: torch's own writer raises a bare RuntimeError on a full disk
        content = io.BytesIO()
        torch.jit.save(traced, content)
        path.write_bytes(content.getbuffer())


def _refuse_unconverted(network: ParamFile, graph: ExportGraph) -> None:
    unknown = [layer for layer in network.layers if "." in layer.type or "::" in layer.type]
    # an expression is only what is left of another operator's arguments
    unknown.sort(key=lambda layer: layer.type == "pnnx.Expression")
    if unknown:
        layer = unknown[0]
        name = layer.type.replace("::", ".").rpartition(".")[2]
        remedy = _REMEDIES.get(name, "write it with operators that ncnn has, or choose a tflite target")
        where = describe_place(nodes_of(graph.module.graph, name)) or f" (layer {layer.name!r})"
        raise ConversionError(f"ncnn has no operator for {layer.type}{where}; {remedy}")


def _with_names_and_sizes(network: ParamFile, graph: ExportGraph) -> ParamFile:
    names = {f"in{index}": name for index, name in enumerate(graph.inputs)}
    results = {f"out{index}": name for index, name in enumerate(graph.outputs)}
    found = [layer.outputs[0] for layer in network.inputs]
    if sorted(found) != sorted(names) or sorted(network.outputs) != sorted(results):
        raise ConversionError(
            f"pnnx wrote the inputs {found} and the outputs {list(network.outputs)} where the network has "
            f"{list(graph.inputs)} and {list(graph.outputs)}; use every input, and return every state anew"
        )
    try:
        network = network.with_blob_names({**names, **results})
    except ValueError as error:
        raise ConversionError(f"the inputs' names collide with pnnx's: {error}; rename the input") from error

    def state_size(layer: Layer) -> Layer:
        if layer.type != "Input":
            return layer
        _, channels, height, width = graph.inputs[layer.outputs[0]].shape
        return layer.with_setting(0, width).with_setting(1, height).with_setting(2, channels)

    return network.map(state_size)
