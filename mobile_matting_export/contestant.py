"""What can be evaluated: an artifact in its runtime, or a network in PyTorch, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import QualityError
from mobile_matting_export.formats.format import Session
from mobile_matting_export.images import from_output, to_input
from mobile_matting_export.matte import make_inputs, read_image_spec
from mobile_matting_export.network import LoadedNetwork, state_sha256
from mobile_matting_export.networks.spec import ImageSpec
from mobile_matting_export.parity import run_network

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Contestant:
    """One column of an evaluation.

    ``first_inputs`` makes the inputs of a first frame of an RGB picture; ``run`` takes inputs to
    alpha 1x1xHxW; ``fed_back`` names the inputs that get the last alpha on the frames that follow.
    ``source`` says where it comes from: an artifact's folder or a network, and its sha256.
    """

    title: str
    source: Mapping[str, str]
    device: str
    image: ImageSpec
    first_inputs: Callable[[npt.NDArray[np.uint8]], dict[str, np.ndarray]]
    run: Callable[[Inputs], np.ndarray]
    fed_back: tuple[str, ...]

    def matte(
        self, picture: npt.NDArray[np.uint8], before: np.ndarray | None = None
    ) -> tuple[npt.NDArray[np.float32], np.ndarray]:
        """The matte H x W of a picture at its own size, and alpha as the network gave it.

        Args:
            picture: uint8 H x W x 3 RGB.
            before: the network's alpha of the frame before; None for a first frame.

        Raises:
            QualityError: alpha holds infinities or NaN.
        """
        inputs = self.first_inputs(picture)
        if before is not None:
            inputs |= dict.fromkeys(self.fed_back, before)
        alpha = self.run(inputs)
        if not np.isfinite(alpha).all():
            raise QualityError(
                f"{self.title} returned values that are not numbers; an fp16 file may have overflowed: convert with "
                "--precision fp32, and look at the checkpoint where that does not help"
            )
        return from_output(alpha, self.image, picture.shape), alpha


def artifact_contestant(artifact: Artifact, session: Session) -> Contestant:
    """An artifact, run by the session that was opened from it."""
    return Contestant(
        title=artifact.title,
        source={"artifact": str(artifact.folder), "sha256": artifact.manifest["files"][0]["sha256"]},
        device=session.device,
        image=read_image_spec(artifact.manifest),
        first_inputs=lambda picture: make_inputs(artifact, picture),
        run=lambda inputs: session.run(inputs)["alpha"],
        fed_back=tuple(s["name"] for s in artifact.manifest["inputs"][1:] if s["source"] == "alpha"),
    )


def network_contestant(network: LoadedNetwork) -> Contestant:
    """A network in PyTorch, in float32 on the CPU."""
    states = network.spec.state

    def first_inputs(picture: npt.NDArray[np.uint8]) -> dict[str, np.ndarray]:
        inputs = {"image": to_input(picture, network.spec.image, network.size)}
        for state in states:
            inputs[state.name] = np.full((1, state.channels, *network.size), state.initial, np.float32)
        return inputs

    return Contestant(
        title=f"{network.spec.name} PyTorch",
        source={"network": network.source, "sha256": state_sha256(network.module)},
        device="cpu (PyTorch, float32)",
        image=network.spec.image,
        first_inputs=first_inputs,
        run=lambda inputs: run_network(network, inputs),
        fed_back=tuple(state.name for state in states if state.source == "alpha"),
    )
