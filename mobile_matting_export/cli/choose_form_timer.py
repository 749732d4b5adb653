"""What ``convert --autotune`` times with: this computer, or the phone that ``--device`` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobile_matting_export.errors import UsageError

if TYPE_CHECKING:
    from mobile_matting_export.targets import Target
    from mobile_matting_export.time_forms import FormTimer

_HOST = "host"


def choose_form_timer(autotune: bool, device: str | None, targets: Sequence[Target]) -> FormTimer | None:
    """The timer for ``--autotune``; None without it.

    Raises:
        UsageError: ``--device`` without ``--autotune``, a GPU's row on this computer, a row without a phone runner.
        BenchError: no such phone, no runner.
    """
    if not autotune:
        if device is not None:
            raise UsageError("--device says where --autotune times forms: give --autotune, or leave --device away")
        return None
    if device is None or device == _HOST:
        from mobile_matting_export.time_forms import HERE, require_cpu

        for target in targets:
            require_cpu(target)
        return HERE
    from mobile_matting_export.cli.time_on_phone import phone_form_timer

    return phone_form_timer(device, targets)
