"""Two convolutions with no activation between them become one.

B(A(x)) = W_B (W_A x + b_A) + b_B = (W_B W_A) x + (W_B b_A + b_B), summed over the channels between.
With B 1x1 and unpadded, the product has A's kernel, padding and dilation, and the strides multiply.
With A 1x1 and B of any kernel it has B's; but where B pads, it pads A's result with zeros, and that
is padding x only if A has no bias. The product has gcd(groups of A, groups of B) groups.
Finds: a convolution that only one other convolution reads, as 120 -> 40 -> 16 channels, where
multiply-accumulates and parameters both shrink (they do not around most bottlenecks).
Refuses: a bias of A that would be missing in B's padding; computed weights.
Exact: yes (float32 rounding; 2.4e-7 at most on the listed networks). Computed in float64.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import fx

from mobile_matting_export.graph.ops import CONV, Conv, is_op, only_user
from mobile_matting_export.graph.provenance import describe, module_path
from mobile_matting_export.graph.surgery import add_constant, constant, erase, set_args, shape
from mobile_matting_export.rewrites.rewrite import Decision, Outcome, Rewrite


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals, decisions = 0, [], []
    for node in list(graph_module.graph.nodes):
        while is_op(node, CONV) and is_op(first := node.args[0], CONV) and only_user(first) is node:
            settings = _settings(Conv.of(first), Conv.of(node))
            if settings is None:
                break
            decision = _decide(first, node, settings.groups)
            if decision.taken == "apart":
                decisions.append(decision)
                break
            if (obstacle := _obstacle(graph_module, first, node)) is not None:
                refusals.append(f"{describe(node)}: not merged with {describe(first)}, {obstacle}")
                break
            decisions.append(decision)
            _merge(graph_module, first, node, settings)
            changes += 1
    return Outcome(changes, tuple(refusals), tuple(decisions))


def _settings(a: Conv, b: Conv) -> Conv | None:
    """Stride, padding, dilation and groups of the product; None where neither is a plain 1x1."""
    groups = math.gcd(a.groups, b.groups)
    if shape(b.weight)[2:] == (1, 1) and b.padding == (0, 0):
        stride = (a.stride[0] * b.stride[0], a.stride[1] * b.stride[1])
        return dataclasses.replace(a, stride=stride, groups=groups)
    if shape(a.weight)[2:] == (1, 1) and a.padding == (0, 0) and a.stride == (1, 1):
        return dataclasses.replace(b, input=a.input, groups=groups)
    return None


def _decide(first: fx.Node, node: fx.Node, groups: int) -> Decision:
    """Merged where multiply-accumulates and parameters both fall; a tensor with other readers frees nothing."""
    a, b = Conv.of(first), Conv.of(node)
    outputs, inputs = shape(node)[1], shape(a.input)[1]
    weights = outputs * (inputs // groups) * math.prod(shape(a.weight)[2:]) * math.prod(shape(b.weight)[2:])
    macs_before = _pixels(first) * math.prod(shape(a.weight)) + _pixels(node) * math.prod(shape(b.weight))
    freed = {part for part in (a.weight, a.bias, b.weight, b.bias) if part is not None and only_user(part) is not None}
    biases = 0 if a.bias is None and b.bias is None else outputs
    macs, parameters = _pixels(node) * weights, sum(math.prod(shape(part)) for part in freed)
    costs = (("apart", float(macs_before)), ("merged", float(macs)))
    shrinks = macs < macs_before and weights + biases < parameters
    return Decision(module_path(node), costs, "multiply-accumulates", "merged" if shrinks else "apart")


def _pixels(node: fx.Node) -> int:
    return math.prod(shape(node)[2:])


def _obstacle(graph_module: fx.GraphModule, first: fx.Node, node: fx.Node) -> str | None:
    a, b = Conv.of(first), Conv.of(node)
    for part in (a.weight, a.bias, b.weight, b.bias):
        if part is not None and constant(graph_module, part) is None:
            return "a weight or bias is computed"
    bias = constant(graph_module, a.bias)
    if b.padding != (0, 0) and bias is not None and bias.any():
        return f"whose bias would be missing in the padding of {describe(node)}"
    return None


def _merge(graph_module: fx.GraphModule, first: fx.Node, node: fx.Node, settings: Conv) -> None:
    a, b = Conv.of(first), Conv.of(node)
    left = _blocks(constant(graph_module, b.weight), b.groups, settings.groups)
    right = _blocks(constant(graph_module, a.weight), a.groups, settings.groups)
    # one of the kernels is 1x1, so that no position is met twice
    product = torch.einsum("gomyx,gmiuv->goiyuxv", left, right)
    rows, columns = product.shape[3] * product.shape[4], product.shape[5] * product.shape[6]
    kernel = product.reshape(shape(node)[1], -1, rows, columns)
    bias: fx.Node | None = None
    biases = [constant(graph_module, part) for part in (a.bias, b.bias)]
    if any(part is not None for part in biases):
        numbers = torch.zeros(shape(node)[1], dtype=torch.float64)
        if biases[0] is not None:
            numbers += torch.einsum("gomyx,gm->go", left, biases[0].double().view(settings.groups, -1)).flatten()
        if biases[1] is not None:
            numbers += biases[1].double()
        bias = add_constant(graph_module, numbers, f"{node.name}_merged_bias", node)
    weight = add_constant(graph_module, kernel, f"{node.name}_merged_weight", node)
    set_args(graph_module, node, dataclasses.replace(settings, weight=weight, bias=bias).args_for(CONV))
    erase(graph_module, first)


def _blocks(weight: torch.Tensor | None, groups: int, wanted: int) -> torch.Tensor:
    """Weights of a convolution in fewer groups: wanted x outputs x inputs x kh x kw, zeros between the old groups."""
    assert weight is not None
    inside = groups // wanted
    split = weight.double().view(wanted, inside, -1, *weight.shape[1:])
    apart = torch.einsum("wkoiyx,kl->wkoliyx", split, torch.eye(inside, dtype=torch.float64))
    return apart.flatten(3, 4).flatten(1, 2)


MERGE_LINEAR_CONVS = Rewrite(
    name="merge_linear_convs",
    why="one product instead of two, and the map between is never written",
    apply=_apply,
)
