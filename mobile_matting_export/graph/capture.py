"""Capture a PyTorch module once, as a plain FX graph of functional ATen operators.

``torch.export`` in non-strict mode, then its functionalization (in-place operators and writes to
views become pure ones), then a copy into a graph module of our own: without guards, with every
tensor registered once however many names it had, and with the path of the module each node came
from. All rewrites and lowerings start from this graph.
"""

from __future__ import annotations

import contextlib
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.graph.provenance import describe, user_line
from mobile_matting_export.graph.surgery import annotate_shapes, tidy

_FUNCTIONAL_BATCH_NORM = torch.ops.aten._native_batch_norm_legit_no_training.default
_ASSERTIONS = (torch.ops.aten._assert_tensor_metadata.default, torch.ops.aten._assert_async.msg)


def capture(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> fx.GraphModule:
    """The graph of ``module`` in eval mode for inputs of exactly these shapes.

    Args:
        module: takes the tensors of ``inputs`` positionally and returns one tensor, or a tuple of them: alpha,
            then new values of states.
        inputs: name -> float32 NCHW example of batch 1; the names become the placeholders' names.

    Raises:
        ConversionError: control flow on tensor values, unsupported Python, results that are no tensors or
            not computed from the inputs, random numbers, or state kept in the network from one call to the next.
    """
    program = _export(module.eval(), tuple(inputs.values()))
    source = program.module(check_guards=False)
    graph_module = _copy_plain(source, tuple(inputs))
    tidy(graph_module)
    annotate_shapes(graph_module, tuple(inputs.values()))
    return graph_module


def _export(module: nn.Module, examples: tuple[torch.Tensor, ...]) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings(), torch.no_grad(), _quiet_logging():
            warnings.simplefilter("ignore")
            return torch.export.export(module, examples, strict=False).run_decompositions({})
    except Exception as error:  # torch.export raises whatever the network's own code raises
        inner = getattr(module, "net", module)  # the user's own, behind the head
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(
            f"torch.export could not capture {type(inner).__name__}: {reason}{user_line(error)}. "
            "Branches on tensor values and sizes read at run time cannot be exported: "
            "replace them by tensor operations or constants for the chosen --size."
        ) from error


@contextlib.contextmanager
def _quiet_logging() -> Iterator[None]:
    """Hold back torch's log: it prints whole graphs before the exception that we turn into a sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _copy_plain(source: fx.GraphModule, names: tuple[str, ...]) -> fx.GraphModule:
    """Copy nodes into a fresh graph module; tensors that share storage become one buffer."""
    root, graph = nn.Module(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    registered: dict[tuple[Any, ...], fx.Node] = {}
    remaining_names = iter(names)
    for node in source.graph.nodes:
        if node.op == "call_module" or (node.op == "get_attr" and not node.users):
            continue  # torch.export's guards, and tensors nobody reads
        if node.target in _ASSERTIONS:
            continue  # of types and layouts, which capture has fixed
        if _writes_back(node):
            copies[node] = copies[node.args[1]]
            continue  # the caller's image stays as it is
        _require_determined(node)
        if node.op == "placeholder":
            name = next(remaining_names)
            copies[node] = graph.placeholder(name)
        elif node.op == "get_attr":
            tensor = _attribute(source, node.target)
            key = (
                tensor.untyped_storage().data_ptr(),
                tensor.storage_offset(),
                tuple(tensor.shape),
                tensor.stride(),
            )
            if tensor.numel() == 0 or key not in registered:
                name = node.target.replace(".", "__")
                root.register_buffer(name, tensor.detach().clone())
                registered[key] = graph.get_attr(name)
            copies[node] = registered[key]
        elif node.op == "output":
            graph.output(_results(node, copies))
        elif node.target is operator.getitem and node.args[0].target is _FUNCTIONAL_BATCH_NORM:
            copies[node] = copies[node.args[0]]  # a 3-tuple there, one tensor here
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if node.target is _FUNCTIONAL_BATCH_NORM:
                _spell_plainly(copies[node])
    return fx.GraphModule(root, graph)


def _writes_back(node: fx.Node) -> bool:
    """Whether ``node`` stores a result into an input of the network (``x *= 2`` on the caller's image).

    Raises:
        ConversionError: it stores into the network itself, which the next frame would read.
    """
    if node.target is not torch.ops.aten.copy_.default:
        return False
    target = node.args[0]
    if isinstance(target, fx.Node) and target.op == "get_attr":
        raise ConversionError(
            f"the network changes its own buffer {target.target} in eval mode, so a frame's alpha depends on the "
            "frames before it: return the state and take it as an input instead"
        )
    return True


def _require_determined(node: fx.Node) -> None:
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise ConversionError(
            f"{describe(node)} draws random numbers in eval mode: pass training=self.training to F.dropout, "
            "or remove it"
        )


def _attribute(module: nn.Module, path: str) -> torch.Tensor:
    return operator.attrgetter(path)(module)


def _results(output: fx.Node, copies: Mapping[fx.Node, fx.Node]) -> fx.Node | tuple[fx.Node, ...]:
    """The result, or a tuple of several."""
    results = output.args[0]
    flat = list(results) if isinstance(results, (tuple, list)) else [results]
    if not flat or not all(isinstance(result, fx.Node) for result in flat):
        raise ConversionError(
            f"the network must return tensors: the alpha matte, then new values of its states; it returns {len(flat)} "
            "values, and not all are tensors"
        )
    found = tuple(copies[result] for result in flat)
    for number, result in enumerate(found):
        if len(found) > 1 and result.op != "call_function":
            what = f"the input {result.target}" if result.op == "placeholder" else "a constant"
            raise ConversionError(
                f"result {number} of the network is {what}, unchanged: leave it out of its results and inputs"
            )
    return found if len(found) > 1 else found[0]


def _spell_plainly(node: fx.Node) -> None:
    """Turn the functionalized batch norm into ``aten.batch_norm``, which every lowering knows."""
    inputs, weight, bias, mean, variance, momentum, eps = node.args
    node.target = torch.ops.aten.batch_norm.default
    node.args = (inputs, weight, bias, mean, variance, False, momentum, eps, False)
