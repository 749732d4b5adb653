"""JUnit XML of judged reports: a suite a device, a case an artifact; what does not pass is a failure or an error."""

from __future__ import annotations

from collections.abc import Sequence

from android_bench.gate import FAIL, PASS
from android_bench.judged import Judged


def junit_xml(judged: Sequence[Judged]) -> str:
    """The document as text. A fail is a ``failure``; inconclusive, lost and unreadable are ``error``: none passes."""
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

    document = JUnitXml("mmexport bench")
    for report in judged:
        suite = TestSuite(report.device)
        for entry in report.entries:
            seconds = sum(launch.get("wall_s") or 0.0 for launch in entry.result.get("launches") or [])
            case = TestCase(entry.title, classname=f"mmexport.bench.{report.device}", time=seconds)
            text = "\n".join(entry.verdict.reasons)
            outcome = entry.verdict.outcome
            if outcome in (FAIL, "quality"):
                case.result = [Failure(text, outcome)]
            elif outcome != PASS:
                case.result = [Error(text, outcome)]
            else:
                case.system_out = text
            suite.add_testcase(case)
        document.add_testsuite(suite)
    document.update_statistics()
    written = document.tostring()
    return written if isinstance(written, str) else written.decode()
