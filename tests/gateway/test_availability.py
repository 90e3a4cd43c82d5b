"""Availability: what is told, and when, compared with looking every second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from petiole_gateway.hub.availability import (
    ASLEEP,
    GRACE_MIN_MS,
    OFFLINE,
    ONLINE,
    ONLINE_MS,
    OVERDUE,
    WAKE_MS,
    Availability,
    Presence,
)

MINUTE = 60_000


class Fleet:
    """Devices whose clock moves by hand, and what was told of them."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.told: list[tuple[int, str, str, str]] = []
        self.availability = Availability(self._changed)
        self.devices: dict[str, Presence] = {}

    def _changed(self, device: str, old: str, presence: Presence) -> None:
        self.told.append((self.now, device, old, presence.state))

    def device(self, name: str = "d") -> Presence:
        return self.devices.setdefault(name, Presence())

    def heard(self, name: str = "d") -> None:
        self.device(name).heard(self.now)
        self.availability.look(name, self.device(name), self.now)

    def sleeps(self, sleep_ms: int, name: str = "d") -> None:
        self.device(name).sleeps(self.now, sleep_ms)
        self.availability.look(name, self.device(name), self.now)

    def wait(self, ms: int) -> None:
        """Let time pass, waking up only when the fleet asks for it."""
        end = self.now + ms
        while self.availability.deadline is not None and self.availability.deadline <= end:
            self.now = self.availability.deadline
            self.availability.expire(self.now)
        self.now = end

    @property
    def states(self) -> list[str]:
        return [state for _, _, _, state in self.told]


def test_a_device_that_is_awake_goes_offline_when_it_says_nothing() -> None:
    fleet = Fleet()
    fleet.heard()
    assert fleet.states == [ONLINE]
    fleet.wait(ONLINE_MS)
    assert fleet.states == [ONLINE]
    fleet.wait(1)
    assert fleet.states == [ONLINE, OFFLINE]
    fleet.heard()
    assert fleet.states == [ONLINE, OFFLINE, ONLINE]


def test_a_sleeper_that_keeps_its_word_is_told_once() -> None:
    fleet = Fleet()
    fleet.heard()
    fleet.sleeps(10 * MINUTE)
    for late in (0, GRACE_MIN_MS, -2 * MINUTE, MINUTE):
        fleet.wait(10 * MINUTE + late)
        fleet.heard()
        fleet.wait(500)
        fleet.sleeps(10 * MINUTE)
    assert fleet.states == [ONLINE, ASLEEP]


def test_a_sleeper_that_breaks_its_word_is_overdue_and_after_three_wakes_offline() -> None:
    fleet = Fleet()
    fleet.heard()
    fleet.sleeps(10 * MINUTE)
    start = fleet.now
    fleet.wait(31 * MINUTE + 1)
    grace = MINUTE
    assert [(at - start, state) for at, _, _, state in fleet.told[2:]] == [
        (10 * MINUTE + grace + 1, OVERDUE),
        (30 * MINUTE + grace + 1, OFFLINE),
    ]
    fleet.heard()
    fleet.sleeps(10 * MINUTE)
    assert fleet.states[-2:] == [ONLINE, ASLEEP]


def test_a_sleeper_that_stays_awake_is_online() -> None:
    fleet = Fleet()
    fleet.heard()
    fleet.sleeps(10 * MINUTE)
    fleet.wait(10 * MINUTE)
    fleet.heard()
    fleet.wait(WAKE_MS - 1)
    fleet.heard()
    assert fleet.states[-1] == ASLEEP
    fleet.wait(1)
    assert fleet.states[-1] == ONLINE


def test_one_that_sleeps_for_an_unknown_time_is_never_late() -> None:
    fleet = Fleet()
    fleet.heard()
    fleet.sleeps(0)
    fleet.wait(365 * 24 * 60 * MINUTE)
    assert fleet.states == [ONLINE, ASLEEP]
    assert fleet.device().next_wake is None


events = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["heard", "sleep"]),
        st.sampled_from([0, 1, 5, 30, 70, 71, 300, 5000]),  # seconds until the next event
        st.sampled_from([0, 1, 20, 600]),  # announced, s
    ),
    max_size=25,
)


@given(events)
def test_nothing_is_told_late_or_twice(steps: list[tuple[str, str, int, int]]) -> None:
    fleet = Fleet()
    for name, what, pause_s, sleep_s in steps:
        if what == "heard":
            fleet.heard(name)
        elif fleet.device(name).heard_at is not None:
            fleet.sleeps(1000 * sleep_s, name)
        end = fleet.now + 1000 * pause_s
        while fleet.now < end:
            fleet.wait(1000)
            for device, presence in fleet.devices.items():
                assert presence.judge(fleet.now)[0] == presence.state, (device, fleet.now)
    for (_, device, old, new), following in zip(fleet.told, fleet.told[1:], strict=False):
        assert old != new
        assert following[1] != device or following[2] == new
    assert len(fleet.availability._due) <= 2 + 2 * len(steps)
