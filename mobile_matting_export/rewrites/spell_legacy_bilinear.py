"""TensorFlow 1's bilinear resize, spelled with PyTorch's, becomes one operator again.

Its output row i lies at i * H / n of the input's rows, for n output rows; past the last row the last
one counts. PyTorch has no such mode. Its corner-aligned mode takes H + 1 rows to n + 1 at these very
positions, so networks repeat the last row, resize to n + 1 and keep the first n; columns alike.
Two of these in a row are one, when the first multiplies both sides by whole numbers: it keeps every
pixel and adds points on the straight lines between them, which the second follows.
Finds: a corner-aligned bilinear resize of a map repeated by concatenation with its own last row and
column or by a replicating pad, cropped by slices behind; axes in any order. Two such operators in a row.
Refuses: what something else reads on the way.
Exact: yes (float32 rounding: 2.4e-7 of pixels up to 4 where sides double; where they triple, PyTorch's own
positions are 1.4e-5 off and this operator's 3.4e-7).
Only for TFLite, whose RESIZE_BILINEAR has the mode; elsewhere the portable form stays.
"""

from __future__ import annotations

import torch
from torch import fx

from mobile_matting_export.graph.ops import BILINEAR, CAT, SLICE, argument, is_op, only_user
from mobile_matting_export.graph.provenance import describe
from mobile_matting_export.graph.surgery import insert_op, replace, set_args, shape, tidy
from mobile_matting_export.graph.tflite_ops import RESIZE_BILINEAR_LEGACY
from mobile_matting_export.rewrites.rewrite import Outcome, Rewrite

aten = torch.ops.aten


def _apply(graph_module: fx.GraphModule) -> Outcome:
    changes, refusals = 0, []
    for node in list(graph_module.graph.nodes):
        if not is_op(node, BILINEAR) or not node.args[2]:
            continue
        source = _without_repeats(node.args[0])
        if source is None:
            continue
        height, width = (side - 1 for side in shape(node)[2:])
        last = _cropped(node, (height, width))
        if last is None:
            refusals.append(
                f"{describe(node)}: stays portable, it is not cropped by one row and column, or read before"
            )
            continue
        new = insert_op(graph_module, last, RESIZE_BILINEAR_LEGACY, source, height, width, like=node)
        replace(graph_module, last, new)
        changes += 1
    tidy(graph_module)  # the repeats that are not read any more would count as readers
    for node in list(graph_module.graph.nodes):
        if is_op(node, RESIZE_BILINEAR_LEGACY) and _follows_straight_lines(node):
            set_args(graph_module, node, (node.args[0].args[0], *node.args[1:]))
            changes += 1
    return Outcome(changes, tuple(refusals))


def _without_repeats(node: fx.Node) -> fx.Node | None:
    """The map of which ``node`` repeats the last row and the last column once, or None."""
    if is_op(node, aten.pad.default) and argument(node, 2, "mode", "constant") == "replicate":
        return node.args[0] if list(node.args[1]) == [0, 1, 0, 1] else None  # type: ignore[return-value, arg-type]
    axes = []
    while (axis := _repeated_axis(node)) is not None:
        axes.append(axis)
        node = node.args[0][0]  # type: ignore[index, assignment, union-attr]
    return node if sorted(axes) == [2, 3] else None


def _repeated_axis(node: fx.Node) -> int | None:
    """The axis along which ``node`` is some map and that map's last row or column, or None."""
    if not is_op(node, CAT) or len(node.args[0]) != 2:  # type: ignore[arg-type]
        return None
    whole, end = node.args[0]  # type: ignore[misc]
    axis = argument(node, 1, "dim", 0) % 4
    if axis not in (2, 3) or not is_op(end, SLICE) or end.args[0] is not whole:  # type: ignore[union-attr]
        return None
    length = shape(whole)[axis]  # type: ignore[arg-type]
    return axis if _range(end) == (axis, length - 1, length) else None  # type: ignore[arg-type]


def _cropped(node: fx.Node, sides: tuple[int, int]) -> fx.Node | None:
    """The node behind which only the first ``sides`` rows and columns of ``node`` are left, or None."""
    wanted = {(2, 0, sides[0]), (3, 0, sides[1])}
    while wanted:
        user = only_user(node)
        if user is None or not is_op(user, SLICE) or (taken := _range(user)) not in wanted:
            return None
        wanted.remove(taken)
        node = user
    return node


def _range(node: fx.Node) -> tuple[int, int, int] | None:
    """(axis, first, end) of a slice with step 1, counted from the start."""
    axis = argument(node, 1, "dim", 0) % 4
    first, end = argument(node, 2, "start"), argument(node, 3, "end")
    if argument(node, 4, "step", 1) != 1:
        return None
    first, end, _ = slice(first, end).indices(shape(node.args[0])[axis])  # type: ignore[arg-type]
    return (axis, first, end)


def _follows_straight_lines(node: fx.Node) -> bool:
    """Whether ``node`` resizes what a legacy resize made of a map without leaving out one of its pixels."""
    first = node.args[0]
    if not is_op(first, RESIZE_BILINEAR_LEGACY) or len(first.users) != 1:  # type: ignore[union-attr]
        return False
    before, after = shape(first.args[0]), shape(first)  # type: ignore[arg-type, union-attr]
    return all(large % small == 0 for small, large in zip(before[2:], after[2:], strict=True))


SPELL_LEGACY_BILINEAR = Rewrite(
    name="spell_legacy_bilinear",
    why="one RESIZE_BILINEAR instead of two copies, a larger one and two copies more",
    apply=_apply,
)
