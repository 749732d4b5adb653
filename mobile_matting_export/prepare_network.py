"""What the targets of one call share: frames, the captured graph, graphs by their rewrites, calibration."""

from __future__ import annotations

import functools
from dataclasses import fields, replace

import torch
from torch import fx

from mobile_matting_export.announce import Announce, Part
from mobile_matting_export.artifact_key import artifact_key, references_state
from mobile_matting_export.autotune import TimedRow
from mobile_matting_export.calibration import Calibration, load_calibration
from mobile_matting_export.fingerprint import contract_state, digest, graph_state, network_state
from mobile_matting_export.graph.capture import capture
from mobile_matting_export.job import Job
from mobile_matting_export.network import LoadedNetwork
from mobile_matting_export.parity import Case, make_cases
from mobile_matting_export.rewrites.rewrite import Rewrite, Step, apply_rewrites
from mobile_matting_export.targets import Target, find_target

PROBES = 2
"""The ledger measures every step on so many frames; the artifact itself is verified on all cases."""

# fields of a job that decide neither bytes nor verdict, or have a part of the key of their own
_NO_OPTIONS = ("targets", "output", "precision", "images", "overwrite", "cache", "form_timer", "int8")


class Prepared:
    """What targets share, each made when it is first needed: frames, the captured graph, graphs by their rewrites."""

    def __init__(self, network: LoadedNetwork, job: Job, announce: Announce) -> None:
        self.network, self.job, self.announce = network, job, announce
        self.done: dict[tuple[Rewrite, ...], tuple[fx.GraphModule, tuple[Step, ...]]] = {}

    @functools.cached_property
    def cases(self) -> tuple[Case, ...]:
        """The verification frames."""
        return make_cases(self.network, self.job.images)

    @functools.cached_property
    def graph(self) -> fx.GraphModule:
        """The network as it was captured, before any rewrite."""
        self.announce(f"capturing {self.network.spec.name}")
        return capture(self.network.module, self.network.examples())

    @functools.cached_property
    def state(self) -> str:
        """The network as text for a key; one whose code may be anything is told by its graph and its results."""
        known = network_state(self.network)
        return known or digest(contract_state(self.network), graph_state(self.graph), references_state(self.cases))

    @functools.cached_property
    def calibration(self) -> Calibration:
        """The pictures of int8; what is doubtful about them is announced."""
        self.announce(Part("making calibration frames"))
        calibration = load_calibration(self.network, self.job.int8.calibration)
        if calibration.warning is not None:
            self.announce(Part(f"warning: {calibration.warning}"))
        return calibration

    def for_target(self, target: Target) -> tuple[fx.GraphModule, tuple[Step, ...]]:
        """The graph after the row's rewrites, and their ledger."""
        # the second opinion goes through ONNX, which has no TFLite operators
        row = find_target("onnx").rewrites if self.job.backend == "onnx2tf" else target.rewrites
        if row not in self.done:
            probes = [tuple(torch.from_numpy(v) for v in case.inputs.values()) for case in self.cases[:PROBES]]
            start, done = self._longest_head(row)
            said = f"rewriting for {target.name}"
            # other forms of a row are tried within a step
            self.announce(said if row in [each.rewrites for each in self.job.targets] else Part(said))
            graph, steps = apply_rewrites(start, row[len(done) :], probes)
            before = done[-1].total_error if done else 0.0
            self.done[row] = graph, (*done, *(replace(s, total_error=before + s.total_error) for s in steps))
        return self.done[row]

    def _longest_head(self, row: tuple[Rewrite, ...]) -> tuple[fx.GraphModule, tuple[Step, ...]]:
        """The graph of the longest row that ``row`` begins with, and its ledger; errors of both may add up."""
        heads = [done for done in self.done if row[: len(done)] == done]
        return self.done[max(heads, key=len)] if heads else (self.graph, ())

    def key(self, target: Target, precision: str, tuned: TimedRow) -> str | None:
        """The artifact's key in the cache; None where there is no cache, or something that decides has no name."""
        if self.job.cache is None:
            return None
        options = {one.name: getattr(self.job, one.name) for one in fields(self.job) if one.name not in _NO_OPTIONS}
        options |= {"autotune": tuned.record}
        if precision == "int8":
            # where the pictures are from stands in the manifest
            options |= {
                "int8": (
                    self.calibration.sha256,
                    self.calibration.source,
                    repr(replace(self.job.int8, calibration=None)),
                )
            }
        return artifact_key(target, precision, self.job.images, options, self.state)
