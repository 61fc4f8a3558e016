"""Runs again what a busy machine can make fail, a fixed number of times, and prints every first failure in full.

By pytest-rerunfailures; without that plugin nothing runs again. Tests marked `measured` and those in tests/system may
fail at first wherever they run. Of all the others at most FEW may in one run: more fail the run, although each passed.
"""

from __future__ import annotations

import pytest

#: How often a failed test runs again whose verdict rests on a measured time or memory.
MEASURED = 2
#: The same for one that starts whole processes, and for any other test.
ONCE = 1
#: Other tests that may fail at first in one run.
FEW = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the tests that may run again the plugin's mark. Long runs that look for rare faults get none."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return
    for item in items:
        if item.get_closest_marker("measured"):
            item.add_marker(pytest.mark.flaky(reruns=MEASURED))
        elif not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=ONCE))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which more than FEW tests failed at first that measure nothing and start no process."""
    if exitstatus == pytest.ExitCode.OK and len(_witnesses(session.config)) > FEW:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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
    witnesses = sorted(_witnesses(terminalreporter.config))
    if len(witnesses) > FEW:
        terminalreporter.section(f"{len(witnesses)} TESTS FAILED AT FIRST, AND {FEW} MAY", sep="!")
        terminalreporter.write_line("\n".join(witnesses))


def _witnesses(config: pytest.Config) -> set[str]:
    """Return the tests that measure nothing, start no process, and failed at first."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reruns: list[pytest.TestReport] = [] if reporter is None else reporter.stats.get("rerun", [])
    return {
        report.nodeid
        for report in reruns
        if "measured" not in report.keywords and not report.nodeid.startswith("tests/system/")
    }
