"""What the text of a TFLite program says about the CPU: whether XNNPACK ran the network, and how much of it. Pure.

Sentences as in google-ai-edge/LiteRT, tflite/tools/benchmark and tflite/core/subgraph.cc; the one with the number of
operations comes at the verbose log level, so most texts tell less. Another delegate's sentences are never counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from android_bench.runners.runner import Finding

Kernels = Literal["xnnpack", "plain", "ncnn", "unknown"]
"""``plain``: the runtime's own CPU kernels; ``unknown``: the text does not tell."""

_CREATED = re.compile(r"^.*Created TensorFlow Lite XNNPACK delegate for CPU\.?.*$", re.MULTILINE)
_APPLIED = re.compile(
    r"^.*XNNPACK delegate(?: is explicitly applied)?, (?:and )?the model graph will "
    r"(?:not be|be completely|be partially) executed by the delegate.*$",
    re.MULTILINE,
)
_REPLACED = re.compile(
    r"^.*Replacing (\d+)(?: out of (\d+))? node\(s\) with delegate \(TfLiteXNNPackDelegate\).*$", re.MULTILINE
)


@dataclass(frozen=True)
class CpuKernels:
    """``nodes`` of ``graph_nodes`` operations ran in ``kernels``, the rest plainly; None where nothing tells.

    ``proof``: the line that says it, empty when none does. ``whole``: whether it was all of the network.
    """

    kernels: Kernels = "unknown"
    nodes: int | None = None
    graph_nodes: int | None = None
    whole: bool | None = None
    proof: str = ""


def read_cpu_kernels(text: str) -> CpuKernels:
    """What a runner's text says of the CPU; all unknown where it says nothing."""
    replaced = list(_REPLACED.finditer(text))
    if replaced:  # a line a subgraph
        nodes = sum(int(match[1]) for match in replaced)
        whole_graph = all(match[2] for match in replaced)
        graph_nodes = sum(int(match[2]) for match in replaced) if whole_graph else None
        whole = None if graph_nodes is None else nodes == graph_nodes
        return CpuKernels("xnnpack" if nodes else "plain", nodes, graph_nodes, whole, _line(replaced[0]))
    if applied := _APPLIED.search(text):
        said = applied[0]
        if "not be executed" in said:
            return CpuKernels("plain", 0, None, False, _line(applied))
        return CpuKernels("xnnpack", None, None, "completely" in said, _line(applied))
    if created := _CREATED.search(text):
        return CpuKernels("xnnpack", proof=_line(created))
    return CpuKernels()


def cpu_findings(found: CpuKernels) -> tuple[Finding, ...]:
    """What a reader of a CPU time should know: none of it makes the time worthless."""
    if found.kernels == "unknown":
        text = "the runner does not say whether XNNPACK ran the network; nothing but the CPU was asked for"
        return (Finding("cpu-kernels-unknown", text, "warns"),)
    if found.kernels == "plain":
        text = "XNNPACK took nothing of the network: a time of the plain kernels, longer than it need be"
        return (Finding("xnnpack-not-used", text, "warns"),)
    if found.whole is False:
        part = "a part" if found.nodes is None else f"{found.nodes} of {found.graph_nodes} operations"
        text = f"XNNPACK took {part} of the network, the plain kernels the rest"
        return (Finding("xnnpack-in-part", text, "warns"),)
    return ()


def _line(match: re.Match[str]) -> str:
    return match[0].strip().removeprefix("INFO: ").removeprefix("VERBOSE: ")
