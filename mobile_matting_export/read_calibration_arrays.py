"""Read a network's inputs from a NumPy archive, ready made by somebody else's preprocessing."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from mobile_matting_export.errors import UsageError
from mobile_matting_export.network import LoadedNetwork

# rounding of whoever normalized
_SLACK = 1e-3
# pictures that span less of what the network sees were divided once too often
_NARROWEST = 0.05


def read_calibration_arrays(network: LoadedNetwork, path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz, in the order of the network's inputs.

    Args:
        network: says names, sizes and normalization.
        path: one array N x C x H x W float32 for each input, called as it: ``image``, normalized as the network wants
            it (channels in its order), then states. Nothing pickled.

    Raises:
        UsageError: not such an archive; other names, shapes or types; NaN; an image that is not normalized.
    """
    arrays = _load(path)
    wanted = {name: tuple(example.shape[1:]) for name, example in network.examples().items()}
    name = network.spec.name
    if set(arrays) != set(wanted):
        raise UsageError(
            f"{path} has the arrays {', '.join(arrays) or 'none'}; {name} needs exactly {', '.join(wanted)}: "
            "save them with numpy.savez under these names"
        )
    for key, shape in wanted.items():
        values = arrays[key]
        if values.dtype != np.float32:
            raise UsageError(f"{key} in {path} is {values.dtype}, not float32: normalize it, then astype('float32')")
        if values.shape[1:] != shape or values.ndim != 4:
            expected = " x ".join(map(str, ("N", *shape)))
            raise UsageError(f"{key} in {path} has the shape {values.shape}; {name} takes {expected} (NCHW)")
        if len(values) != len(arrays["image"]):
            raise UsageError(f"{path} has {len(arrays['image'])} images, but {len(values)} of {key}: give one for each")
        if not np.isfinite(values).all():
            bad = int(np.argmax(~np.isfinite(values).all(axis=(1, 2, 3))))
            raise UsageError(f"{key} in {path} has NaN or infinite values, first in frame {bad}; leave that one out")
    if len(arrays["image"]):
        _check_normalized(network, path, arrays["image"])
    return {key: arrays[key] for key in wanted}


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise UsageError(f"{path} holds a single array: save it with numpy.savez(path, image=array)")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UsageError(
            f"cannot read the arrays of {path}: {error}; save them with numpy.savez, without objects"
        ) from error


def _check_normalized(network: LoadedNetwork, path: Path, image: np.ndarray) -> None:
    """Refuse what no picture normalized for this network is."""
    spec = network.spec.image
    mean, scale = np.array(spec.mean), np.array(spec.scale)
    ends = np.sort(np.stack([(0 - mean) * scale, (255 - mean) * scale]), axis=0)
    lowest, highest = image.min(axis=(0, 2, 3)), image.max(axis=(0, 2, 3))
    whole = ends[1] - ends[0]
    beyond = (lowest < ends[0] - _SLACK * whole) | (highest > ends[1] + _SLACK * whole)
    if beyond.any() or ((highest - lowest) < _NARROWEST * whole).all():
        raise UsageError(
            f"image in {path} reaches from {image.min():.4g} to {image.max():.4g}, pictures for {network.spec.name} "
            f"from {ends[0].min():.4g} to {ends[1].max():.4g}: normalize them as (pixel - mean) * scale, with the "
            f"mean {_text(spec.mean)} and the scale {_text(spec.scale)} of its {spec.color} channels"
        )


def _text(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers)
