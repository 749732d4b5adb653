from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from mobile_matting_export.errors import ConversionError
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.graph.provenance import module_path

aten = torch.ops.aten


class Calling(nn.Module):
    """A network whose forward is ``function(self, image)``, with the given layers as attributes."""

    def __init__(self, function: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(self, image)


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (1, 3, 37, 45), generator=torch.Generator().manual_seed(0))


def captured(module: nn.Module, image: torch.Tensor) -> fx.GraphModule:
    """The graph, after checking that it gives bit for bit what the module does and leaves its input alone."""
    torch.manual_seed(0)
    with torch.no_grad():
        expected = module.eval()(image.clone())
    graph = capture(module, {"image": image.clone()})
    given = image.clone()
    with torch.no_grad():
        assert torch.equal(graph(given), expected)
    assert torch.equal(given, image)
    return graph


def operators(graph: fx.GraphModule) -> list[object]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def write_half(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    image = image * 1
    image[:, :2] *= 0.5
    return image


def write_a_rectangle(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    image = image * 1
    image[:, 1:2, 3:9, -5:] = image.mean()
    return image


def write_one_channel(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    image = image * 1
    image[:, 0] = image[:, 1]
    return image


def write_the_input(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    image.mul_(2)
    return image + 1


def return_the_written_input(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return image.mul_(2)


def without_gradients(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return image * 2


FORWARDS = {
    "relu in place": lambda m, x: F.relu_(x * 1).add_(1).clamp_(0, 2),
    "in-place module": lambda m, x: nn.ReLU(inplace=True)(x + 1),
    "write to a slice": write_half,
    "write to a rectangle": write_a_rectangle,
    "write to one channel": write_one_channel,
    "write to the input": write_the_input,
    "return the written input": return_the_written_input,
    "no_grad": without_gradients,
    "chunk": lambda m, x: torch.cat(tuple(reversed(x.chunk(3, dim=1))), dim=1),
    "split": lambda m, x: torch.cat(tuple(reversed(x.split([1, 2], dim=1))), dim=1),
    "getitem": lambda m, x: x[:, 1:, 2:-3, ::2],
    "adaptive pool to one": lambda m, x: x * F.adaptive_avg_pool2d(x, 1),
    "adaptive pool to odd sizes": lambda m, x: F.adaptive_avg_pool2d(x, (5, 7)),
    "pixel shuffle": lambda m, x: F.pixel_shuffle(torch.cat([x, x[:, :1]], 1), 2),
    "bilinear by factor": lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "nearest by size": lambda m, x: F.interpolate(x, size=(50, 31)),
    "cast": lambda m, x: (x > 0).float() + (x > 0.5).float() + x.double().float(),
    "maximum over channels": lambda m, x: x.max(dim=1, keepdim=True).values,
    "assertion": lambda m, x: (torch._assert(x.shape[1] == 3, "three channels"), x * 2)[1],
    "dropout in eval mode": lambda m, x: F.dropout(x, training=m.training) * 2,
    "identity": lambda m, x: x,
}


@pytest.mark.parametrize("function", [pytest.param(f, id=name) for name, f in FORWARDS.items()])
def test_forward_is_captured_bit_identical_and_functional(function: Callable[..., torch.Tensor]) -> None:
    graph = captured(Calling(function), picture())

    assert [o for o in operators(graph) if getattr(o, "_schema", None) and o._schema.is_mutable] == []


@pytest.mark.parametrize(
    ("layer", "operator"),
    [
        (nn.Conv2d(3, 4, 3, padding=1), aten.conv2d.default),
        (nn.Conv2d(3, 4, 3, padding="same"), aten.conv2d.padding),
        (nn.ConvTranspose2d(3, 4, 4, 2, 1), aten.conv_transpose2d.input),
        (nn.BatchNorm2d(3), aten.batch_norm.default),
        (nn.InstanceNorm2d(3), aten.instance_norm.default),
        (nn.PReLU(3), aten.prelu.default),
        (nn.ReLU6(), aten.hardtanh.default),
        (nn.Hardswish(), aten.hardswish.default),
        (nn.Linear(45, 4), aten.linear.default),
        (nn.AvgPool2d(3, 2, 1), aten.avg_pool2d.default),
        (nn.MaxPool2d(3, 2, 1), aten.max_pool2d.default),
        (nn.Softmax(dim=1), aten.softmax.int),
        (nn.ZeroPad2d(1), aten.pad.default),
        (nn.ReflectionPad2d(1), aten.pad.default),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_layer_is_captured_as_one_operator(layer: nn.Module, operator: object) -> None:
    assert operators(captured(nn.Sequential(layer), picture())) == [operator]


def test_inputs_become_placeholders_of_their_names_in_order() -> None:
    class Two(nn.Module):
        def forward(self, image: torch.Tensor, previous_alpha: torch.Tensor) -> torch.Tensor:
            return image[:, :1] - previous_alpha

    graph = capture(Two(), {"image": picture(), "previous_alpha": picture(1, 1, 37, 45)})

    assert [node.target for node in graph.graph.nodes if node.op == "placeholder"] == ["image", "previous_alpha"]


def test_unread_input_stays_a_placeholder() -> None:
    class First(nn.Module):
        def forward(self, image: torch.Tensor, unread: torch.Tensor) -> torch.Tensor:
            return image * 2

    graph = capture(First(), {"image": picture(), "unread": picture()})

    assert [node.target for node in graph.graph.nodes if node.op == "placeholder"] == ["image", "unread"]


def test_module_under_two_names_is_stored_once() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    graph = captured(Calling(lambda m, x: m.first(x) + m.second(x * 2), first=shared, second=shared), picture())

    assert [tuple(tensor.shape) for tensor in graph.buffers()] == [(3, 3, 3, 3), (3,)]
    assert operators(graph).count(aten.conv2d.default) == 2


def test_two_views_of_one_storage_stay_two_tensors() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            both = torch.arange(6.0)
            self.register_buffer("first", both[:3])
            self.register_buffer("second", both[3:])

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * self.first.view(1, 3, 1, 1) + self.second.view(1, 3, 1, 1)

    graph = captured(Halves(), picture())

    assert sorted(tensor.tolist() for tensor in graph.buffers()) == [[0, 1, 2], [3, 4, 5]]


def test_unread_results_and_tensors_are_dropped() -> None:
    network = Calling(
        lambda m, x: (m.head(x), m.auxiliary(x))[0], head=nn.Conv2d(3, 1, 1), auxiliary=nn.Conv2d(3, 8, 3)
    )

    graph = captured(network, picture())

    assert operators(graph) == [aten.conv2d.default]
    assert len(list(graph.buffers())) == 2


def test_num_batches_tracked_is_no_tensor_of_the_graph() -> None:
    graph = captured(nn.Sequential(nn.BatchNorm2d(3)), picture())

    assert all(tensor.is_floating_point() for tensor in graph.buffers())


def test_nodes_know_module_and_shape() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))

    graph = captured(network, picture())

    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    assert [module_path(node) for node in calls] == ["0", "1.0", "1.1"]
    assert [node.meta["shape"] for node in calls] == [(1, 4, 18, 22)] * 3


def test_graph_is_in_eval_mode_and_independent_of_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    image = picture()

    graph = capture(network, {"image": image})

    with torch.no_grad():
        before = graph(image)
        network[0].weight.zero_()
        assert torch.equal(graph(image), before)
    assert not any(isinstance(tensor, nn.Parameter) for tensor in graph.buffers())


def branch_on_a_value(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    if image.sum() > 0:
        return image
    return -image


def test_branch_on_a_tensor_value_names_file_and_line() -> None:
    line = branch_on_a_value.__code__.co_firstlineno + 1

    with pytest.raises(ConversionError) as caught:
        capture(Calling(branch_on_a_value), {"image": picture()})

    message = str(caught.value)
    assert message.startswith("torch.export could not capture Calling: ")
    assert f"(test_capture.py, line {line}: `if image.sum() > 0:`)" in message
    assert "Branches on tensor values" in message


def test_network_that_fails_names_its_own_line() -> None:
    def fail(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
        raise ValueError("needs 4 channels")

    with pytest.raises(ConversionError, match=r"needs 4 channels \(test_capture.py, line \d+: `raise ValueError"):
        capture(Calling(fail), {"image": picture()})


@pytest.mark.parametrize("results", [lambda x: None, lambda x: (x * 2, 1.0), lambda x: ()])
def test_results_that_are_no_tensors_are_refused(results: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(ConversionError, match="the network must return tensors: the alpha matte, then new values of"):
        capture(Calling(lambda m, x: results(x)), {"image": picture()})  # type: ignore[arg-type,return-value]


def test_several_results_keep_their_order() -> None:
    graph = capture(Calling(lambda m, x: (x * 2, x + 1, x * 3)), {"image": picture()})  # type: ignore[arg-type,return-value]
    for result, wanted in zip(graph(picture()), (picture() * 2, picture() + 1, picture() * 3), strict=True):
        assert torch.equal(result, wanted)


def test_state_that_is_an_input_unchanged_is_refused() -> None:
    with pytest.raises(ConversionError, match="result 1 of the network is the input image, unchanged: leave it out"):
        capture(Calling(lambda m, x: (x * 2, x)), {"image": picture()})  # type: ignore[arg-type,return-value]


def test_one_result_in_a_tuple_or_dictionary_is_taken() -> None:
    for results in (lambda m, x: (x * 2,), lambda m, x: {"alpha": x * 2}):
        graph = capture(Calling(results), {"image": picture()})  # type: ignore[arg-type]
        assert torch.equal(graph(picture()), picture() * 2)


def test_random_numbers_in_eval_mode_are_refused() -> None:
    with pytest.raises(ConversionError, match=r"dropout at .* draws random numbers in eval mode"):
        capture(Calling(lambda m, x: F.dropout(x, 0.5)), {"image": picture()})


def test_state_kept_between_frames_is_refused() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("previous", torch.zeros(1, 3, 37, 45))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.previous.copy_(0.5 * self.previous + image)
            return self.previous * 2

    with pytest.raises(ConversionError, match="changes its own buffer previous in eval mode"):
        capture(Recurrent(), {"image": picture()})
