"""The ``.ncnn.param`` text: parsed into layers, changed, written back byte for byte.

Grammar (Tencent/ncnn, "param and model file structure")::

    7767517
    <layers> <blobs>
    <type> <name> <inputs> <outputs> <input blobs...> <output blobs...> <key>=<value>...

Weights are not in here; the ``.ncnn.bin`` holds them in the order of the layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAGIC = "7767517"
NAME_WIDTH = 24
FEATURE_MASK = 31
"""Key of the bit mask that switches features off for one layer, the same key on every layer type."""
NO_WINOGRAD = 1 << 6
"""Of the feature mask: a convolution of 3x3 is computed without Winograd's algorithm."""


class ParamSyntaxError(ValueError):
    """The text is no ncnn network; says the line and why."""


@dataclass(frozen=True)
class Layer:
    """One layer: its type, its own name, the blobs it reads and writes, its ``key=value`` settings.

    Values stay text, so that whatever the converter wrote is written back unchanged.
    """

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[int, str] = field(default_factory=dict)

    def setting(self, key: int, default: int = 0) -> int:
        """Return the whole number under ``key``, or ``default`` when the layer does not set it."""
        return int(self.settings.get(key, default))

    def with_setting(self, key: int, value: int) -> Layer:
        """Return the same layer with one setting changed, or added at the end."""
        return dataclasses.replace(self, settings={**self.settings, key: str(value)})

    def with_features_off(self, bits: int) -> Layer:
        """Return the same layer with further ``bits`` of its feature mask set."""
        return self.with_setting(FEATURE_MASK, self.setting(FEATURE_MASK) | bits)


@dataclass(frozen=True)
class ParamFile:
    """A network: its layers in the order of execution, which is also that of the weights."""

    layers: tuple[Layer, ...]

    @property
    def inputs(self) -> tuple[Layer, ...]:
        """The ``Input`` layers; each writes one blob."""
        return tuple(layer for layer in self.layers if layer.type == "Input")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The blobs that no layer reads, in the order in which they are written."""
        read = {blob for layer in self.layers for blob in layer.inputs}
        return tuple(blob for layer in self.layers for blob in layer.outputs if blob not in read)

    def map(self, change: Callable[[Layer], Layer]) -> ParamFile:
        """Return the network with ``change`` applied to every layer."""
        return ParamFile(tuple(change(layer) for layer in self.layers))

    def with_blob_names(self, names: Mapping[str, str]) -> ParamFile:
        """Return the network with blobs renamed, old name -> new name.

        Raises:
            ValueError: a blob to rename is missing, or two blobs would get one name.
        """
        blobs = [blob for layer in self.layers for blob in layer.outputs]
        missing = [old for old in names if old not in blobs]
        if missing:
            raise ValueError(f"there is no blob {missing[0]!r}")
        renamed = [names.get(blob, blob) for blob in blobs]
        twice = [blob for blob in renamed if renamed.count(blob) > 1]
        if twice:
            raise ValueError(f"two blobs would be called {twice[0]!r}")

        def rename(layer: Layer) -> Layer:
            return dataclasses.replace(
                layer,
                inputs=tuple(names.get(blob, blob) for blob in layer.inputs),
                outputs=tuple(names.get(blob, blob) for blob in layer.outputs),
            )

        return self.map(rename)

    def to_text(self) -> str:
        """Return the file's text in the layout that pnnx writes."""
        blobs = sum(len(layer.outputs) for layer in self.layers)
        lines = [MAGIC, f"{len(self.layers)} {blobs}"]
        for layer in self.layers:
            head = f"{layer.type:<{NAME_WIDTH}} {layer.name:<{NAME_WIDTH}}"
            words = [f"{len(layer.inputs)}", f"{len(layer.outputs)}", *layer.inputs, *layer.outputs]
            words += [f"{key}={value}" for key, value in layer.settings.items()]
            lines.append(f"{head} {' '.join(words)}")
        return "\n".join(lines) + "\n"


def parse(text: str) -> ParamFile:
    """Return the network that the text of a ``.ncnn.param`` describes.

    Raises:
        ParamSyntaxError: wrong magic, wrong counts, a malformed line, a blob read before it is written
            or written twice; names the line.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise ParamSyntaxError(f"line 1 must be the magic number {MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(word.isdigit() for word in counts):
        raise ParamSyntaxError("line 2 must hold the number of layers and the number of blobs")
    layers = []
    written: set[str] = set()
    for number, line in enumerate(lines[2:], start=3):
        if not line.strip():
            continue
        layer = _parse_layer(line, number)
        for blob in layer.inputs:
            if blob not in written:
                raise ParamSyntaxError(f"line {number}: {layer.name} reads blob {blob!r}, which no layer wrote")
        for blob in layer.outputs:
            if blob in written:
                raise ParamSyntaxError(f"line {number}: blob {blob!r} is written twice")
            written.add(blob)
        layers.append(layer)
    if (len(layers), len(written)) != (int(counts[0]), int(counts[1])):
        raise ParamSyntaxError(
            f"line 2 promises {counts[0]} layers and {counts[1]} blobs, the file has {len(layers)} and {len(written)}"
        )
    return ParamFile(tuple(layers))


def read(path: Path) -> ParamFile:
    """Return the network in the file ``path``; raises ``ParamSyntaxError`` or ``OSError``."""
    try:
        return parse(path.read_text(encoding="ascii"))
    except UnicodeDecodeError as error:
        raise ParamSyntaxError(f"byte {error.start} is not ASCII text") from error


def _parse_layer(line: str, number: int) -> Layer:
    words = line.split()
    if len(words) < 4 or not (words[2].isdigit() and words[3].isdigit()):
        raise ParamSyntaxError(f"line {number} is not '<type> <name> <inputs> <outputs> ...': {line.strip()[:80]!r}")
    reads, writes = int(words[2]), int(words[3])
    blobs, settings = words[4 : 4 + reads + writes], words[4 + reads + writes :]
    if len(blobs) != reads + writes or any("=" in blob for blob in blobs):
        raise ParamSyntaxError(f"line {number}: {words[1]} promises {reads} inputs and {writes} outputs")
    pairs: dict[int, str] = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or not value or not key.removeprefix("-").isdigit():
            raise ParamSyntaxError(f"line {number}: {word!r} is not a 'key=value' setting")
        pairs[int(key)] = value
    return Layer(words[0], words[1], tuple(blobs[:reads]), tuple(blobs[reads:]), pairs)
