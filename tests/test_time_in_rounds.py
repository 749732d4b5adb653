from __future__ import annotations

import time

from mobile_matting_export.time_in_rounds import WARM_UP, time_in_rounds


def test_every_call_is_timed_once_a_round_after_the_first_ones() -> None:
    said: list[str] = []
    calls = [lambda: said.append("a"), lambda: said.append("b")]

    taken = time_in_rounds(calls, 3, list.reverse)

    assert [len(times) for times in taken] == [3, 3]
    assert "".join(said) == ("baab" * (WARM_UP + 3))[: 2 * (WARM_UP + 3)]


def test_processor_time_is_told_apart_from_waiting() -> None:
    def work() -> None:
        begun = time.process_time()
        while time.process_time() - begun < 0.004:
            pass

    busy, idle = time_in_rounds([work, lambda: time.sleep(0.02)], 3)

    assert min(busy) >= 4 > max(idle)
