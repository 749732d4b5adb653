"""The type of the numbers that an int8 file takes for the image and gives for alpha."""

from __future__ import annotations

from typing import Literal, get_args

IoKind = Literal["float", "int8", "uint8"]
"""``float``: float32. The others: stored numbers q with a scale and a zero point, real = (q - zero point) * scale."""

IO_KINDS: tuple[IoKind, ...] = get_args(IoKind)
"""The default first."""
