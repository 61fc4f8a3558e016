"""Runs again what a busy machine can make fail, a fixed number of times, and prints every first failure in full.

By pytest-rerunfailures; without that plugin nothing runs again. A test that is neither `measured` nor of the default
tests in tests/system never does: whatever fails there has failed.
"""

from __future__ import annotations

import pytest

#: How often a failed test runs again whose verdict rests on a measured time or memory.
MEASURED = 2
#: The same for one that starts whole processes.
SYSTEM = 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the tests that may run again the plugin's mark. Long runs that look for rare faults get none."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return
    for item in items:
        if item.get_closest_marker("measured"):
            item.add_marker(pytest.mark.flaky(reruns=MEASURED))
        elif item.nodeid.startswith("tests/system/") and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=SYSTEM))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each failure after which a test ran again, and how that ended."""
    reports = terminalreporter.stats
    failures: list[pytest.TestReport] = reports.get("rerun", [])
    if not failures:
        return
    passed = {report.nodeid for report in reports.get("passed", [])}
    failed = {report.nodeid for kind in ("failed", "error") for report in reports.get(kind, [])}
    terminalreporter.section("FAILED, AND RUN AGAIN")
    for report in failures:
        outcome = "passed" if report.nodeid in passed - failed else "FAILED AGAIN"
        terminalreporter.section(f"{report.nodeid} failed, and {outcome} when it was run again", sep="_")
        terminalreporter.write_line(report.longreprtext)
        for title, content in report.sections:
            terminalreporter.section(title, sep="-")
            terminalreporter.write_line(content.removesuffix("\n"))
