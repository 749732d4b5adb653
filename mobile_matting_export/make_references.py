"""What the original network makes of the pictures, for several artifacts of it: computed once where it is the same."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobile_matting_export.announce import Announce
from mobile_matting_export.artifact import Artifact
from mobile_matting_export.errors import MmexportError
from mobile_matting_export.images import list_pictures
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.one_thread import one_thread
from mobile_matting_export.parity import Case, make_cases
from mobile_matting_export.read_facts import read_facts
from mobile_matting_export.verify import load_original


@dataclass(frozen=True)
class Reference:
    """The frames to compare an artifact on, with the original's alpha of each.

    None where the original is not at hand; ``why`` says so.
    """

    cases: tuple[Case, ...]
    why: str = ""


@one_thread()
def make_references(
    artifacts: Sequence[Artifact],
    images: Path | None,
    checkpoint: Path | None,
    network: str | None,
    announce: Announce = lambda message: None,
) -> list[Reference]:
    """The reference of each artifact; those of one size and input contract share theirs.

    Args:
        artifacts: of one network, see ``require_one_network``.
        images: folder of pictures, None for the bundled samples.
        checkpoint: the weights, None to look where the manifests say.
        network: the user's ``file.py:callable``, None to take the manifests'.
        announce: called before each original is run.

    Raises:
        UsageError: the folder of pictures cannot be read, or what was given is not what the artifacts were made from.
    """
    if images is not None:  # also where no original is at hand: a wrong path is told
        list_pictures(images)
    shared: dict[Hashable, list[Artifact]] = {}
    for artifact in artifacts:
        shared.setdefault(read_facts(artifact).original, []).append(artifact)
    made: dict[Hashable, Reference] = {}
    for original, alike in shared.items():
        announce(f"running {alike[0].manifest['network']['name']} in PyTorch, as {alike[0].title} takes pictures")
        found = _load_first(alike, checkpoint, network)
        if isinstance(found, LoadedNetwork):
            made[original] = Reference(make_cases(found, images))
        elif checkpoint is None and network is None:
            made[original] = Reference((), str(found))
        else:
            raise found
    return [made[read_facts(artifact).original] for artifact in artifacts]


def _load_first(
    artifacts: Sequence[Artifact], checkpoint: Path | None, network: str | None
) -> LoadedNetwork | MmexportError:
    """The original as the first manifest finds it, or why none does: the same weights may lie in several files."""
    reasons: list[MmexportError] = []
    for artifact in artifacts:
        try:
            return load_original(artifact, checkpoint, network)
        except MmexportError as error:
            reasons.append(error)
    return reasons[0]
