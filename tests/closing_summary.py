"""What a run says at its end beside pytest's own words. From the reports of the tests, which also come from workers.

The process that prints has collected no tests where workers run them, so it knows the conftest of `tests` alone: hooks
of a folder's conftest would not be heard.
"""

import pytest

LINE = "line of the closing summary"  # the property in which a test's `report` leaves one
_SERVICE = "tests/service/"
_EMULATED = "tests/emulated/"
_SYSTEMD = "test_systemd.py"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _say_reported(terminalreporter)
    _say_service(terminalreporter)
    _say_emulated(terminalreporter)


def _say_reported(reporter: pytest.TerminalReporter) -> None:
    lines = [
        f"{each.nodeid.rpartition('::')[2]}: {text}"
        for each in _ended(reporter)
        for name, text in each.user_properties
        if each.when == "call" and name == LINE
    ]
    if lines:
        reporter.section("faults")
        for line in lines:
            reporter.write_line(line)


def _say_service(reporter: pytest.TerminalReporter) -> None:
    """What the service was tested with: a real systemd, or the notify socket alone."""
    here = [each.nodeid for each in _ended(reporter) if _SERVICE in each.nodeid]
    if not here:
        return
    skipped = [each.longrepr[2] for each in reporter.stats.get("skipped", ()) if _SERVICE in each.nodeid]
    if any(_SYSTEMD in nodeid for nodeid in here):
        told = "a real systemd as process 1 of a Debian root"
    else:
        told = "the notify socket; a real systemd is started by `make soak`"
    reporter.write_line(f"service: tested with {told}")
    for reason in sorted(set(skipped)):
        reporter.write_line(f"service: {reason.removeprefix('Skipped: ')}")


def _say_emulated(reporter: pytest.TerminalReporter) -> None:
    """Whether MicroPython's own image was flashed, which nobody has who has not fetched it."""
    skipped = {each.longrepr[2] for each in reporter.stats.get("skipped", ()) if _EMULATED in each.nodeid}
    for reason in sorted(skipped):
        reporter.write_line(f"emulated board: NOT TESTED: {reason.removeprefix('Skipped: ')}")


def _ended(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    return [each for outcome in ("passed", "failed") for each in reporter.stats.get(outcome, ())]
