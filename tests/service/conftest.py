"""Says at the end of a run what the service was tested with: a real systemd, or the notify socket alone."""

from __future__ import annotations

import pytest

_SYSTEMD = "test_systemd.py"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = [one.nodeid for name in ("passed", "failed") for one in terminalreporter.stats.get(name, ())]
    here = [nodeid for nodeid in passed if "tests/service/" in nodeid]
    if not here:
        return
    skipped = [one.longrepr[2] for one in terminalreporter.stats.get("skipped", ()) if "tests/service/" in one.nodeid]
    if any(_SYSTEMD in nodeid for nodeid in here):
        told = "a real systemd as process 1 of a Debian root"
    else:
        told = "the notify socket; a real systemd is started by `make soak`"
    terminalreporter.write_line(f"service: tested with {told}")
    for reason in sorted(set(skipped)):
        terminalreporter.write_line(f"service: {reason.removeprefix('Skipped: ')}")
