"""A watchdog that is fed only while work advances, and flash that is written only when nobody speaks."""

from petiole_node.progress import Progress
from petiole_node.quiet import Quiet


def test_work_that_advances_is_never_late() -> None:
    progress = Progress()
    for now in range(0, 60_000, 1000):
        progress.expect("links", now, 5000)
        assert progress.late(now + 999) is None


def test_work_that_stops_is_named() -> None:
    progress = Progress()
    progress.expect("links", 0, 5000)
    progress.expect("readings", 0, 60_000)
    assert progress.late(5000) is None
    assert progress.late(5001) == "links"
    # Other work that advances does not stand for it.
    progress.expect("readings", 5001, 60_000)
    assert progress.late(5001) == "links"


def test_work_that_has_ended_is_expected_no_longer() -> None:
    progress = Progress()
    progress.expect("join", 0, 5000)
    progress.done("join")
    progress.done("join")
    assert progress.late(1 << 40) is None


def test_nothing_is_late_where_nothing_is_expected() -> None:
    assert Progress().late(1 << 40) is None


def test_flash_waits_for_the_answer() -> None:
    quiet = Quiet(True)
    assert quiet.wait_ms(1000, 1000) == 0
    quiet.expect(1000, 350)
    assert quiet.wait_ms(1100, 1100) == 250
    quiet.settle()
    assert quiet.wait_ms(1100, 1100) == 0


def test_an_answer_that_is_due_sooner_does_not_shorten_the_wait_for_another() -> None:
    quiet = Quiet(True)
    quiet.expect(0, 1000)
    quiet.expect(100, 200)
    assert quiet.wait_ms(500, 500) == 500


def test_flash_does_not_wait_for_ever() -> None:
    quiet = Quiet(True)
    writes = []
    wanted_at = 0
    for now in range(0, 20_000, 100):
        quiet.expect(now, 1000)  # somebody always speaks
        if quiet.wait_ms(now, wanted_at) == 0:
            writes.append(now)
            wanted_at = now
    assert writes == list(range(2000, 20_000, 2000))


def test_a_board_that_hears_while_it_writes_need_not_wait() -> None:
    quiet = Quiet(False)
    quiet.expect(0, 10_000)
    assert quiet.wait_ms(1, 1) == 0
