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
from mobile_matting_export.parity import first_states, run_frame

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Contestant:
    """One column of an evaluation.

    ``first_inputs`` makes the inputs of a first frame of an RGB picture; ``run`` takes inputs to outputs by name,
    ``alpha`` 1x1xHxW among them; ``fed_back`` says which outputs are inputs of the frame that follows, input -> output.
    ``source`` says where it comes from: an artifact's folder or a network, and its sha256.
    """

    title: str
    source: Mapping[str, str]
    device: str
    image: ImageSpec
    first_inputs: Callable[[npt.NDArray[np.uint8]], dict[str, np.ndarray]]
    run: Callable[[Arrays], Arrays]
    fed_back: Mapping[str, str]

    def matte(
        self, picture: npt.NDArray[np.uint8], before: Arrays | None = None
    ) -> tuple[npt.NDArray[np.float32], Arrays]:
        """The matte H x W of a picture at its own size, and the outputs as the network gave them.

        Args:
            picture: uint8 H x W x 3 RGB.
            before: the network's outputs of the frame before; None for a first frame.

        Raises:
            QualityError: alpha holds infinities or NaN.
        """
        inputs = self.first_inputs(picture)
        if before is not None:
            inputs |= {name: before[source] for name, source in self.fed_back.items()}
        outputs = self.run(inputs)
        alpha = outputs["alpha"]
        if not np.isfinite(alpha).all():
            raise QualityError(
                f"{self.title} returned values that are not numbers; an fp16 file may have overflowed: convert with "
                "--precision fp32, and look at the checkpoint where that does not help"
            )
        return from_output(alpha, self.image, picture.shape), outputs


def artifact_contestant(artifact: Artifact, session: Session) -> Contestant:
    """An artifact, run by the session that was opened from it."""
    return Contestant(
        title=artifact.title,
        source={"artifact": str(artifact.folder), "sha256": artifact.manifest["files"][0]["sha256"]},
        device=session.device,
        image=read_image_spec(artifact.manifest),
        first_inputs=lambda picture: make_inputs(artifact, picture),
        run=session.run,
        fed_back={state["name"]: state["source"] for state in artifact.manifest["inputs"][1:]},
    )


def network_contestant(network: LoadedNetwork) -> Contestant:
    """A network in PyTorch, in float32 on the CPU."""

    def first_inputs(picture: npt.NDArray[np.uint8]) -> dict[str, np.ndarray]:
        return {"image": to_input(picture, network.spec.image, network.size), **first_states(network)}

    return Contestant(
        title=f"{network.spec.name} PyTorch",
        source={"network": network.source, "sha256": state_sha256(network.module)},
        device="cpu (PyTorch, float32)",
        image=network.spec.image,
        first_inputs=first_inputs,
        run=lambda inputs: run_frame(network, inputs),
        fed_back={state.name: state.source for state in network.spec.state},
    )
