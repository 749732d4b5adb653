"""Resolve a network by name or ``file.py:callable``, load its weights, and wrap its head."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from mobile_matting_export.alpha_network import AlphaNetwork, detect_head
from mobile_matting_export.bundled import bundled_weights
from mobile_matting_export.checkpoint import Checkpoint, load_strictly, read_checkpoint
from mobile_matting_export.errors import CheckpointError, UsageError
from mobile_matting_export.find_states import find_states
from mobile_matting_export.images import load_picture, sample_pictures, to_input
from mobile_matting_export.networks import ALL
from mobile_matting_export.networks.spec import ImageSpec, NetworkSpec

InputKind = Literal["float", "pixels", "uint8"]
"""How a picture enters a file: normalized; as float pixels RGB 0..255; as bytes RGB 0..255."""


@dataclass(frozen=True)
class LoadedNetwork:
    """A network ready to be captured.

    ``module`` takes the tensors of ``examples()`` positionally and returns alpha 1x1xHxW, or, where ``outputs``
    names more than that, a tuple of all.
    ``source`` is the registry name, or the user's ``file.py:callable`` as given. ``input`` says how the
    picture enters the file; ``baked`` is the network's own contract where ``spec.image`` is that of pixels.
    """

    spec: NetworkSpec
    source: str
    module: nn.Module
    checkpoint: Checkpoint | None
    size: tuple[int, int]
    input: InputKind = "float"
    baked: ImageSpec | None = None

    @property
    def byte_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the file takes as uint8; examples and cases hold them as floats."""
        return ("image",) if self.input == "uint8" else ()

    def examples(self) -> dict[str, torch.Tensor]:
        """Zero inputs by name: ``image`` 1x3xHxW, then the states."""
        height, width = self.size
        inputs = {"image": torch.zeros(1, 3, height, width)}
        return inputs | {state.name: torch.zeros(state.shape(self.size)) for state in self.spec.state}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the results: ``alpha``, then the states' new values that the network returns."""
        return ("alpha", *(state.source for state in self.spec.state if state.source != "alpha"))


def load_network(
    name: str,
    checkpoint: Path | None = None,
    size: tuple[int, int] | None = None,
    image: ImageSpec | None = None,
    head: str | None = None,
    foreground: int = 1,
) -> LoadedNetwork:
    """Load a network of the registry, or ``path/to/file.py:callable`` returning an ``nn.Module``.

    What a stranger's network takes beside the image is found by ``find_states``.

    Args:
        name: registry name, or file and callable.
        checkpoint: weights; without it, the bundled ones (a stranger's callable may bring its own).
        size: (H, W), both multiples of what the network needs; default its usual size.
        image: input contract; default the registry's (RGB / 255 for a stranger's network).
        head: ``Head.kind`` of a stranger's network; default: found by running it on a photograph.
        foreground: channel of the person where a stranger's network returns two.

    Raises:
        UsageError: unknown name, no weights, unfit size, a callable that fails.
        CheckpointError: the checkpoint is refused or does not fit.
    """
    if ".py:" in name:
        return _load_strangers(name, checkpoint, size, image or ImageSpec(), head, foreground)
    if head is not None:
        raise UsageError(f"{name} is known, and so is its head: --head is for networks of your own")
    spec = find_spec(name)
    if image is not None:
        spec = replace(spec, image=image)
    path = checkpoint or bundled_weights(spec.name)
    if path is None:
        raise UsageError(
            f"{spec.name} has no bundled weights: give --checkpoint FILE. {spec.weights} Repository: {spec.repository}"
        )
    chosen = size or spec.size
    check_size(spec, chosen)
    loaded = read_checkpoint(path)
    if checkpoint is None:  # where the package lies is no business of the manifest
        loaded = replace(loaded, file=path.name)
    net = spec.build_for_state(loaded.state) if spec.build_for_state is not None else spec.build()
    try:
        load_strictly(net, loaded, spec.duplicates, spec.name)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_owner_hint(loaded, spec)}") from None
    return LoadedNetwork(spec, spec.name, AlphaNetwork(net, spec.head).eval(), loaded, chosen)


def bake_normalization(network: LoadedNetwork, kind: InputKind) -> LoadedNetwork:
    """The same network behind its normalization: its image is RGB, 0..255, whatever the network was trained on.

    ``float`` leaves the network as it is. Resizing stays with the application.
    """
    if kind == "float" or network.baked is not None:
        return network
    own, module = network.spec.image, network.module
    assert isinstance(module, AlphaNetwork)
    pixels = replace(own, color="RGB", mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))
    return replace(
        network,
        spec=replace(network.spec, image=pixels),
        module=AlphaNetwork(module.net, module.head, takes_pixels_of=own, states=module.states).eval(),
        input=kind,
        baked=own,
    )


def state_sha256(module: nn.Module) -> str:
    """Hexadecimal sha256 of a module's tensors, by name: the same weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def find_spec(name: str) -> NetworkSpec:
    """The registry's entry of that name.

    Raises:
        UsageError: unknown; names the nearest.
    """
    if name.endswith(".py"):
        raise UsageError(f"{name}: say which callable of it makes the network, as {name}:build")
    by_name = {spec.name: spec for spec in ALL}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name.lower(), by_name, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"unknown network {name!r}: {hint}`mmexport networks` lists them all; "
        "a network of your own is given as path/to/file.py:callable"
    )


def check_size(spec: NetworkSpec, size: tuple[int, int]) -> None:
    """Refuse an input size the network cannot take.

    Raises:
        UsageError: names the nearest size that fits.
    """
    height, width = size
    if spec.fixed_size and size != spec.size:
        raise UsageError(
            f"{spec.name} only takes {spec.size[0]}x{spec.size[1]} (its pooling windows are fixed), "
            f"not {height}x{width}"
        )
    if height % spec.divisor or width % spec.divisor or min(size) < spec.divisor:
        fitting = "x".join(str(max(1, round(side / spec.divisor)) * spec.divisor) for side in size)
        raise UsageError(
            f"{spec.name} needs height and width to be multiples of {spec.divisor}, not {height}x{width}; "
            f"the nearest that fits is --size {fitting}"
        )


def _load_strangers(
    name: str,
    checkpoint: Path | None,
    size: tuple[int, int] | None,
    image: ImageSpec,
    head_kind: str | None,
    foreground: int,
) -> LoadedNetwork:
    if not Path(name.rpartition(":")[0]).is_file():
        raise UsageError(f"network file {name.rpartition(':')[0]} does not exist")
    if size is None:
        raise UsageError(f"{name}: the input size of a network of your own is needed, for example --size 256x256")
    net = _call_builder(name)
    loaded = None
    if checkpoint is not None:
        loaded = read_checkpoint(checkpoint)
        load_strictly(net, loaded, {}, name)
    net.eval()
    photograph = to_input(load_picture(sample_pictures()[0]), image, size)
    states = find_states(net, size)
    head = detect_head(net, torch.from_numpy(photograph), head_kind, foreground, states)
    spec = NetworkSpec(
        name=f"{Path(name.rpartition(':')[0]).stem}_{name.rpartition(':')[2]}",
        title=type(net).__name__,
        paper="",
        repository="",
        licence="",
        build=lambda: net,
        image=image,
        size=size,
        divisor=1,
        head=head,
        weights="",
        state=states,
    )
    return LoadedNetwork(spec, name, AlphaNetwork(net, head, states=states).eval(), loaded, size)


def _call_builder(name: str) -> nn.Module:
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"network file {path} does not exist")
    spec = importlib.util.spec_from_file_location(f"mmexport_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = str(path.resolve().parent)
    # only while importing: a package named onnx beside the file would shadow the real one later
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
        builder: Callable[[], object] | None = getattr(module, attribute, None)
        if builder is None:
            names = ", ".join(n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n)))
            raise UsageError(f"{path} has no {attribute!r}; callables in it: {names or 'none'}")
        result = builder if isinstance(builder, nn.Module) else builder()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a script that parses arguments exits when it is imported
        raise UsageError(f"{name} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    if not isinstance(result, nn.Module):
        raise UsageError(f"{name} returned {type(result).__name__}, not a torch.nn.Module")
    return result


def _owner_hint(checkpoint: Checkpoint, wanted: NetworkSpec) -> str:
    """`` Its tensors fit NAME.`` when another network of the registry has exactly these keys."""
    for spec in ALL:
        if spec.name == wanted.name:
            continue
        with torch.device("meta"):
            expected = spec.build().state_dict()
        trackers = {key for key in expected if key.endswith("num_batches_tracked")}
        copies = {key for key in expected if any(key.startswith(prefix) for prefix in spec.duplicates)}
        keys = {key for key in checkpoint.state if key not in trackers and key not in copies}
        if keys == expected.keys() - trackers - copies and all(
            checkpoint.state[key].shape == expected[key].shape for key in keys
        ):
            return f" Its tensors fit {spec.name}."
    return ""
