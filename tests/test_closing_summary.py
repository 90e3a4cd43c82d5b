"""What a run says at its end is said with workers, too."""

from pathlib import Path

TESTS = Path(__file__).parent


def test_no_conftest_of_a_folder_has_a_hook_that_a_run_with_workers_does_not_call() -> None:
    hooks = ("pytest_terminal_summary", "pytest_sessionfinish", "pytest_report_header", "pytest_unconfigure")
    found = [
        f"{path.relative_to(TESTS)}: {hook}"
        for path in sorted(TESTS.glob("*/**/conftest.py"))
        for hook in hooks
        if f"def {hook}" in path.read_text()
    ]
    assert not found, "they belong into closing_summary.py"
