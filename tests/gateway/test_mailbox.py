"""Mailboxes as values: order, replacement, deadlines, bounds, and what is sent again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petiole_gateway.hub import mailbox_states as states
from petiole_gateway.hub.mailbox import GIVEN_UP, MAX_ATTEMPTS, MAX_SENT, Mailbox
from petiole_gateway.hub.mailbox_item import Change, Item, item_number

NOW = 1_000_000
HOUR = 3_600_000
ROOM = 10_000


class Clerk:
    """A mailbox with a clock, and everything it ever said."""

    def __init__(self, **bounds: int) -> None:
        self.box = Mailbox(**bounds)
        self.now = NOW
        self.said: list[Change] = []
        self.sequence = 0

    def add(self, id: str, device: str = "d", *, origin: str = "hub", sequence: int = 0, **fields: Any) -> Item:
        self.sequence += 1
        item = Item(
            id,
            device,
            "led",
            b"[]",
            expires_at=self.now + fields.pop("expires_in", HOUR),
            queued_at=self.now,
            sources=[(origin, sequence or self.sequence)],
            **fields,
        )
        self.said += self.box.add(item, self.now)
        return item

    def take(self, device: str = "d", room: int = ROOM, size: int = 10) -> list[str]:
        return [item.id for item in self.box.take(device, room, lambda item: size)]

    def result(self, id: str, status: int = 0, value: Any = None, device: str = "d") -> None:
        self.said += self.box.result(device, item_number(id), status, value, self.now)

    def stop(self, device: str = "d", unsent: tuple[str, ...] = ()) -> None:
        self.said += self.box.stopped(device, self.now, frozenset(map(item_number, unsent)))

    def cancel(self, id: str, device: str = "d") -> bool:
        changes = self.box.cancel(device, id, self.now)
        self.said += changes or []
        return changes is not None

    def wait(self, ms: int) -> None:
        self.now += ms
        self.said += self.box.expire(self.now)

    def history(self, id: str) -> list[str]:
        return [change.state for change in self.said if change.item.id == id]


def test_items_are_sent_in_the_order_of_priority_and_then_of_arrival() -> None:
    clerk = Clerk()
    for id, priority in (("a", 5), ("b", 5), ("urgent", 9), ("c", 5), ("idle", 0)):
        clerk.add(id, priority=priority)
    assert clerk.take() == ["urgent", "a", "b", "c", "idle"]
    assert clerk.take() == []


def test_items_that_come_late_take_their_place_by_sequence() -> None:
    clerk = Clerk()
    for sequence in (7, 5, 6):
        clerk.add(f"i{sequence}", sequence=sequence)
    assert clerk.take() == ["i5", "i6", "i7"]


def test_only_what_fits_is_taken_and_nothing_overtakes_it() -> None:
    clerk = Clerk()
    sizes = {"small": 10, "large": 100, "tiny": 1}
    for id in sizes:
        clerk.add(id)
    assert [item.id for item in clerk.box.take("d", 50, lambda item: sizes[item.id])] == ["small"]
    assert clerk.box.waiting("d") == 2
    assert [item.id for item in clerk.box.take("d", 101, lambda item: sizes[item.id])] == ["large", "tiny"]
    assert clerk.box.waiting("d") == 0


def test_no_more_are_out_than_a_device_remembers() -> None:
    clerk = Clerk()
    for index in range(MAX_SENT + 3):
        clerk.add(f"i{index}")
    assert len(clerk.take()) == MAX_SENT
    assert clerk.take() == []
    clerk.result("i0")
    assert clerk.take() == [f"i{MAX_SENT}"]


def test_an_answer_ends_an_item_and_a_second_one_changes_nothing() -> None:
    clerk = Clerk()
    clerk.add("a")
    clerk.add("b")
    clerk.take()
    clerk.result("a", 0, {"on": True})
    clerk.result("b", 500, "lamp broken")
    clerk.result("a", 500, "again")
    assert clerk.history("a") == [states.PENDING, states.DELIVERED]
    assert clerk.history("b") == [states.PENDING, states.FAILED]
    assert [(change.status, change.value) for change in clerk.said[2:]] == [(0, {"on": True}), (500, "lamp broken")]
    assert clerk.box.late_results_total == 1
    assert len(clerk.box) == 0
    assert clerk.box.devices == []


def test_an_answer_in_a_later_wake_is_taken_before_the_item_is_sent_again() -> None:
    clerk = Clerk()
    item = clerk.add("a")
    clerk.take()
    clerk.stop()
    assert (item.state, item.attempts) == (states.PENDING, 1)
    clerk.result("a")
    assert clerk.history("a") == [states.PENDING, states.DELIVERED]
    assert clerk.take() == []


def test_what_was_not_answered_is_sent_again_and_what_never_left_was_no_attempt() -> None:
    clerk = Clerk()
    sent, unsent = clerk.add("sent"), clerk.add("unsent")
    clerk.take()
    clerk.stop(unsent=("unsent",))
    assert (sent.attempts, unsent.attempts) == (1, 0)
    assert clerk.take() == ["sent", "unsent"]
    assert (sent.attempts, unsent.attempts) == (2, 1)


def test_a_poisonous_item_is_given_up_and_holds_up_nobody() -> None:
    clerk = Clerk()
    clerk.add("poison")
    clerk.add("good")
    for _ in range(MAX_ATTEMPTS):
        assert clerk.take()[:1] == ["poison"]
        clerk.result("good")
        clerk.stop()
    assert clerk.history("good") == [states.PENDING, states.DELIVERED]
    assert clerk.history("poison") == [states.PENDING, states.FAILED]
    assert clerk.said[-1].status == GIVEN_UP
    assert clerk.take() == []


def test_a_newer_item_of_the_same_key_replaces_the_one_that_waits() -> None:
    clerk = Clerk()
    clerk.add("old", key="level")
    clerk.add("other", key="mode")
    clerk.add("new", key="level")
    assert clerk.history("old") == [states.PENDING, states.REPLACED]
    assert clerk.take() == ["other", "new"]


def test_an_older_item_of_the_same_key_that_comes_late_is_replaced_at_once() -> None:
    clerk = Clerk()
    clerk.add("new", key="level", sequence=9)
    clerk.add("old", key="level", sequence=3)
    assert clerk.history("old") == [states.REPLACED]
    assert clerk.take() == ["new"]


def test_one_item_of_a_key_is_out_at_a_time() -> None:
    clerk = Clerk()
    clerk.add("first", key="level")
    assert clerk.take() == ["first"]
    clerk.add("second", key="level")
    assert clerk.take() == []
    clerk.add("third", key="level")
    assert clerk.history("second") == [states.PENDING, states.REPLACED]
    clerk.result("first")
    assert clerk.history("first") == [states.PENDING, states.DELIVERED]
    assert clerk.take() == ["third"]


def test_a_replaced_item_that_was_out_is_not_sent_again() -> None:
    clerk = Clerk()
    clerk.add("first", key="level")
    clerk.take()
    clerk.add("second", key="level")
    clerk.stop()
    assert clerk.history("first") == [states.PENDING, states.REPLACED]
    assert clerk.take() == ["second"]


def test_an_item_expires_at_its_deadline_and_not_before() -> None:
    clerk = Clerk()
    clerk.add("a", expires_in=1000)
    clerk.add("b", expires_in=2000)
    assert clerk.box.next_deadline == NOW + 1000
    clerk.wait(999)
    assert clerk.history("a") == [states.PENDING]
    clerk.wait(1)
    assert clerk.history("a") == [states.PENDING, states.EXPIRED]
    assert clerk.box.next_deadline == NOW + 2000
    assert clerk.take() == ["b"]


def test_an_item_that_arrives_after_its_deadline_is_never_sent() -> None:
    clerk = Clerk()
    clerk.add("late", expires_in=0)
    assert clerk.history("late") == [states.EXPIRED]
    assert clerk.take() == []


@pytest.mark.parametrize(("event", "end"), [("expire", states.EXPIRED), ("cancel", states.CANCELLED)])
def test_an_item_that_is_out_ends_when_the_device_stops_unless_it_answers(event: str, end: str) -> None:
    for answers in (True, False):
        clerk = Clerk()
        clerk.add("a", expires_in=1000)
        clerk.take()
        if event == "expire":
            clerk.wait(5000)
        else:
            assert clerk.cancel("a")
        assert clerk.history("a") == [states.PENDING]
        if answers:
            clerk.result("a")
        clerk.stop()
        assert clerk.history("a") == [states.PENDING, states.DELIVERED if answers else end]
        assert clerk.take() == []


def test_a_cancelled_item_is_not_sent_and_an_unknown_one_cannot_be_cancelled() -> None:
    clerk = Clerk()
    clerk.add("a")
    assert clerk.cancel("a")
    assert not clerk.cancel("a")
    assert not clerk.cancel("nobody")
    assert clerk.history("a") == [states.PENDING, states.CANCELLED]
    assert clerk.take() == []


def test_the_newest_beyond_the_bound_of_a_box_are_dropped_and_others_are_unaffected() -> None:
    clerk = Clerk(max_per_device=6)
    for index in range(10):
        clerk.add(f"i{index}")
    assert [clerk.history(f"i{index}")[-1] for index in range(10)] == [states.PENDING] * 3 + [states.DROPPED] * 7
    clerk.add("other", device="e")
    assert clerk.take("e") == ["other"]
    # A key makes its own room.
    clerk.result("i0")
    clerk.add("k1", key="k")
    clerk.add("k2", key="k")
    assert clerk.history("k2") == [states.PENDING]


def test_a_sender_takes_no_more_places_than_it_leaves_free_and_a_newcomer_finds_one() -> None:
    clerk = Clerk(max_per_device=16)
    senders: list[dict[str, Any]] = [{}, {"key": "?"}, {"origin": "site"}, {"sender": "a"}, {"sender": "b"}]
    counts = []
    for number, fields in enumerate(senders):
        for index in range(20):
            own = {"key": f"k{index}"} if "key" in fields else {}
            clerk.add(f"s{number}.{index}", **{**fields, **own})
        counts.append(sum(f"s{number}." in item.id for item in clerk.box.items("d")))
    assert counts == [8, 4, 2, 1, 1]
    assert clerk.said[-1].reason == "1 of its sender wait already, and the box is full"
    # What replaces another needs no place of its own, though its sender has all of his.
    assert clerk.take()[:1] == ["s0.0"]
    clerk.add("newer", key="k0")
    assert clerk.history("newer") == [states.PENDING]
    # Of a sender that is done the places are free again.
    for index in range(8):
        clerk.result(f"s0.{index}")
    clerk.add("again", sender="a")
    assert clerk.history("again") == [states.PENDING]


def test_what_was_taken_in_an_earlier_run_has_its_place_in_whatever_order_it_is_read() -> None:
    clerk = Clerk(max_per_device=8)
    for index in range(8):
        clerk.add(f"hub{index}")
    for index in range(8):
        clerk.add(f"site{index}", origin="site")
    kept = clerk.box.items("d")
    assert len(kept) == 4 + 2
    again = Mailbox(max_per_device=8)
    for item in reversed(kept):
        item.state = states.QUEUED
        assert [change.state for change in again.add(item, NOW, was_taken=True)] == [states.PENDING]
    assert {item.id for item in again.items("d")} == {item.id for item in kept}


def test_all_boxes_together_are_bounded() -> None:
    clerk = Clerk(max_items=5)
    for index in range(9):
        clerk.add("i", device=f"d{index}")
    assert len(clerk.box) == 5
    assert [change.state for change in clerk.said].count(states.DROPPED) == 4


def test_the_same_item_over_two_ways_is_one_item() -> None:
    clerk = Clerk()
    item = clerk.add("a", origin="hub", sequence=3)
    clerk.add("a", origin="site", sequence=8)
    clerk.add("a", origin="site", sequence=8)
    assert item.sources == [("hub", 3), ("site", 8)]
    assert clerk.take() == ["a"]


def test_deadlines_of_items_that_are_gone_take_no_memory() -> None:
    clerk = Clerk()
    for index in range(5000):
        clerk.add(f"i{index}", expires_in=30 * 24 * HOUR)
        clerk.take()
        clerk.result(f"i{index}")
    assert len(clerk.box._deadlines) < 200


def test_the_number_of_an_item_is_the_crc_of_its_id() -> None:
    assert item_number("123456789") == 0xCBF43926 & 0x3FFFFFFF  # the check value of CRC-32/ISO-HDLC


def test_no_state_but_those_of_the_table_can_follow() -> None:
    for state in states.FINAL:
        for event in (states.SEND, states.STOP, states.DONE, states.EXPIRE, states.CANCEL):
            with pytest.raises(ValueError, match=state):
                states.following(state, event)


_ACTIONS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 12), st.sampled_from([None, "k", "l"]), st.integers(-5, 50)),
    st.tuples(st.just("take"), st.integers(0, 100)),
    st.tuples(st.just("result"), st.integers(0, 12), st.sampled_from([0, 500])),
    st.tuples(st.just("stop")),
    st.tuples(st.just("cancel"), st.integers(0, 12)),
    st.tuples(st.just("wait"), st.integers(0, 30)),
)


@given(st.lists(_ACTIONS, max_size=60))
def test_whatever_happens_every_item_has_one_end_and_is_sent_by_no_means_after_it(actions: list[Any]) -> None:
    clerk = Clerk(max_per_device=4)
    ends: dict[int, str] = {}
    added: dict[int, Item] = {}
    for action, *rest in actions:
        before = len(clerk.said)
        if action == "add":
            item = clerk.add(f"i{rest[0]}", key=rest[1], expires_in=rest[2])
            added[id(item)] = item
        elif action == "take":
            taken = clerk.box.take("d", rest[0], lambda item: 10)
            assert len(taken) * 10 <= rest[0]
            assert not any(id(item) in ends for item in taken)
            keys = [item.key for item in clerk.box.items("d") if item.state == states.SENT and item.key]
            assert len(keys) == len(set(keys))
        elif action == "result":
            clerk.result(f"i{rest[0]}", rest[1])
        elif action == "stop":
            clerk.stop()
            assert not any(item.state == states.SENT for item in clerk.box)
        elif action == "cancel":
            clerk.cancel(f"i{rest[0]}")
        else:
            clerk.wait(rest[0])
        for change in clerk.said[before:]:
            assert id(change.item) not in ends
            if change.state in states.FINAL:
                ends[id(change.item)] = change.state
        assert len(clerk.box) == len(clerk.box.items("d")) <= 4
        assert all(item.attempts <= MAX_ATTEMPTS for item in clerk.box)
    clerk.stop()
    clerk.wait(1000)
    assert len(clerk.box) == 0
    assert clerk.box.next_deadline is None
