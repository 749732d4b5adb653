"""Tells which PyTorch module a layer of an ncnn file comes from, by its weights: the file itself carries no such names.

pnnx hands the weights of convolutions and linear layers on bit for bit, so the numbers in the ``.bin`` are found
again among the constants of the graph that was lowered. Equal weights are told apart by their order.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import torch
from torch import fx

from mobile_matting_export.formats.ncnn import net
from mobile_matting_export.formats.ncnn.list_int8_layers import can_be_int8
from mobile_matting_export.formats.ncnn.walk_weights import walk_weights
from mobile_matting_export.graph.provenance import module_path
from mobile_matting_export.graph.surgery import constant


def name_modules(files: tuple[Path, ...], graph_module: fx.GraphModule) -> dict[str, str]:
    """Return layer name -> module path, for the layers that can be int8 and whose weights are the graph's.

    Args:
        files: ``.param`` and ``.bin`` in fp32.
        graph_module: the rewritten graph that they were lowered from.

    Raises:
        UsageError: a file is missing or no ncnn network.
        ConversionError: the ``.bin`` does not belong to the ``.param``.
    """
    param, weights = net.split_files(files)
    paths: dict[bytes, deque[str]] = {}
    for node in graph_module.graph.nodes:
        if node.op != "call_function":
            continue
        for argument in node.all_input_nodes:
            tensor = constant(graph_module, argument)
            # of more than one axis: biases and slopes have one
            if tensor is not None and tensor.dim() > 1 and tensor.dtype == torch.float32:
                paths.setdefault(tensor.contiguous().numpy().tobytes(), deque()).append(module_path(node))
    found = {}
    for stored in walk_weights(net.read_network(param), weights.read_bytes()):
        if stored.tag is not None and can_be_int8(stored.layer):
            known = paths.get(stored.values().tobytes())
            if known:
                found[stored.layer.name] = known.popleft()
    return found
