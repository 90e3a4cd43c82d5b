"""What all tests share: hypothesis draws the same examples in every run, and has the time a busy machine needs.

`HYPOTHESIS_PROFILE=search` draws others in each run.

What tests start can be interrupted, also in a run that a shell put into the background, which ignores Ctrl-C.
"""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.closing_summary import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]  # a hook

settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("search"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# A new process inherits that a signal is ignored, not that it is handled.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LOG_LINES = 40
LOGS = 4


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """The firmware is built once for all workers, in no folder of the user's."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What has failed shows the ends of the logs in its folder: those of processes that nobody can ask any more."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and isinstance(folder, Path):
        for path in sorted(folder.rglob("*.log"))[:LOGS]:
            lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
            report.sections.append((f"end of {path.relative_to(folder)}", "\n".join(lines)))
    return report
