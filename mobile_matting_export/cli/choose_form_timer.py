"""What ``convert --autotune`` times with: this computer, or the phone that ``--device`` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobile_matting_export.targets import Target
    from mobile_matting_export.time_forms import FormTimer

_HOST = "host"


def choose_form_timer(device: str | None, targets: Sequence[Target]) -> FormTimer:
    """The timer for forms of ``targets`` on ``device``: a phone's serial; ``host`` or None for this computer.

    Raises:
        UsageError: a GPU's row on this computer, a row without a phone runner. BenchError: no such phone, no runner.
    """
    if device is None or device == _HOST:
        from mobile_matting_export.time_forms import HOST_TIMER, require_cpu

        for target in targets:
            require_cpu(target)
        return HOST_TIMER
    from mobile_matting_export.cli.time_forms_on_phone import phone_form_timer

    return phone_form_timer(device, targets)
