"""Errors for people: each says what failed, on what, and what to do next; each has an exit code."""

from __future__ import annotations


class MmexportError(Exception):
    """Base of all expected failures. ``exit_code`` is the process status the commands return."""

    exit_code = 1


class UsageError(MmexportError):
    """A wrong flag, an unknown name, a missing or unreadable input, an unwritable output."""

    exit_code = 2


class ConversionError(MmexportError):
    """The network could not be captured, rewritten, lowered or quantized."""

    exit_code = 3


class PlanRefused(ConversionError):
    """The converter cannot keep this choice of float layers; another choice may do."""


class CheckpointError(ConversionError):
    """The checkpoint is refused: unsafe, damaged, or of another network."""


class QualityError(MmexportError):
    """A parity or metric limit was missed; nothing is left at the output path."""

    exit_code = 4


class InconclusiveError(MmexportError):
    """A measurement that cannot be defended, and so decides nothing."""

    exit_code = 7
