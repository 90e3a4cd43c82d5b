"""Memory runs out once, at any step of a node's core; then it goes on. Nothing is lost, doubled or left open."""

from collections.abc import Callable
from typing import Any

import pytest

from petiole import cbor, states, wire
from petiole.items import Encoded, Measured, Request
from petiole.outbox import Outbox
from petiole.records import Record
from petiole_node.port.cpython import AesCcm
from tests.core import pair as pairs
from tests.core.pair import Pair

from .scarcity import Scarcity, chosen

LONG = "x" * 700  # three fragments
SETTLED_MS = 200_000  # probes of a message whose word was lost are up to 2.5 s apart, joins 15 s


class Exchange(Pair):
    """A node, what its runtime would do, and a gateway with mail. All that the node's core does may find no memory."""

    def __init__(self, scarcity: Scarcity, next_sequence: int | None = 1) -> None:
        self.scarcity = scarcity
        self.published: list[Measured] = []
        self.asked: dict[Request, object] = {}
        self.executed: list[object] = []
        self.carried_out: list[int] = []
        self.mail: dict[int, tuple[object, int]] = {}  # what waits: arguments, attempts
        self.results: dict[int, object] = {}
        self.shortages = 0
        super().__init__(seed=7, next_sequence=next_sequence)

    def start_node(self, outbox: Outbox) -> None:
        super().start_node(outbox)
        node = self.node
        assert node is not None
        self.core = node

    def scarce(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The runtime calls the core. None: there was no memory; it gets some back."""
        try:
            return self.scarcity.call(function, *arguments)
        except MemoryError:
            self.shortages += 1
            return None

    def pump(self) -> None:
        for frame in self.up.arrived(self.now):
            self.gateway.receive(frame, self.now)
        self._collect_results()
        for frame in self.down.arrived(self.now):
            self._deal(self.scarce(self.core.receive, frame, self.now))
        self._deal(self.scarce(self.core.expire, self.now))
        for _ in range(200):
            short = self.shortages
            frame = self.scarce(self.core.next_frame, self.now)
            if frame is not None:
                self.up.send(frame, self.now)
            elif short == self.shortages:
                break
        else:
            raise AssertionError("there is always one more frame")
        for frame in self.gateway.next_frames(self.now):
            self.down.send(frame, self.now)

    def _deal(self, events: list[tuple[Any, ...]] | None) -> None:
        for event in events or []:
            self.events.append(event)
            if event[0] == "command":
                self.executed.append(event[3])
                self.until_done(self.core.reply, event[1], 0, event[3])
            elif event[0] == "mail":
                self.carried_out.append(event[1])
                self.until_done(self.core.finish, event[1], 0, event[3])

    def until_done(self, function: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            short = self.shortages
            result = self.scarce(function, *arguments)
            if short == self.shortages:
                return result

    # What happens ------------------------------------------------------------------------------------------

    def publish(self, value: object) -> None:
        self.published.append(self.until_done(self.core.publish, 0, value, self.now))

    def ask(self, arguments: object) -> None:
        self.asked[self.until_done(self.core.request, "time.now", arguments, 30_000, self.now)] = arguments

    def command(self, arguments: list[object]) -> None:
        self.gateway.request(0, arguments, self.now)

    def post(self, item: int, arguments: object) -> None:
        """Mail goes out, and again until there is a result: the gateway forgets nothing of it."""
        attempt = self.mail.get(item, (None, 0))[1] + 1
        self.mail[item] = (arguments, attempt)
        self.gateway.current.send(Encoded(bytes((wire.MAIL,)) + cbor.encode([item, 0, arguments, attempt])))

    def _collect_results(self) -> None:
        for record in self.gateway.records:
            if isinstance(record, Record) and record.kind == wire.MAIL_RESULT:
                self.results.setdefault(record.value[0], record.value[2])
                self.mail.pop(record.value[0], None)

    def settle(self) -> None:
        self.run(for_ms=SETTLED_MS)
        for item, (arguments, _) in list(self.mail.items()):
            self.post(item, arguments)
        self.run(for_ms=20_000)

    # What has to be ----------------------------------------------------------------------------------------

    def check(self) -> None:
        node, gateway = self.core, self.gateway
        session = node.session
        assert node.state == states.ONLINE
        assert session is not None
        assert [cbor.encode(value) for _, value, _ in gateway.readings] == [item.value for item in self.published]
        assert all(item.is_done for item in self.published)
        assert {event[1] for event in self.events if event[0] == "durable"} == set(self.published)
        assert node.outbox.is_empty
        assert len(self.executed) == len(gateway.requests)
        assert gateway.open == []
        ended = [event for event in self.events if event[0] in ("reply", "failed")]
        assert len(ended) == len(self.asked)
        for event in ended:
            assert event[2] == "session_lost" or (event[0] == "reply" and event[3] == self.asked[event[1]]), event[2]
        assert self.mail == {}
        assert len(self.carried_out) == len(set(self.carried_out))
        assert set(self.results) == set(self.carried_out)
        assert ("policy", 60, 0) in self.events
        assert node._open == []
        assert node.executing == []
        assert node.mail._running == []
        for end in (session, gateway.current):
            assert end.messages.open == []
            assert end._reassembly._partials == []
            assert end.unfinished() == []
            assert end._notices == []
            assert not end.has_due_acks


def forget_and_sleep(world: Exchange) -> None:
    """A node without a memory of its numbers, whose gateway forgets the session, is busy and restarts; sleeps."""
    for value in range(3):
        world.publish(value)
    world.ask("never sent before")
    world.run(lambda: world.gateway.current is not None, 40_000)
    world.gateway.current.send(Encoded(bytes((wire.POLICY,)) + cbor.encode([60, 0])))
    world.run(for_ms=100)
    world.gateway.current.notify(bytes((wire.BUSY, 2)))
    world.gateway.current.notify(bytes((wire.TIME, 0)) + (pairs.TIME + world.now).to_bytes(6, "big"))
    world.publish(3)
    world.run(for_ms=2500)
    world.gateway.current.notify(bytes((wire.COUNTER_FLOOR,)) + (400).to_bytes(4, "big"))
    world.publish(4)
    world.run(for_ms=500)
    for wake in range(3):
        world.post(wake, ["mail"])
        world.publish(["wake", wake])
        world.scarce(world.core.suspend)
        world.gateway.current.suspend()
        world.run(for_ms=5000)
        world.until_done(world.core.sleep, 60, True)
        world.until_done(world.core.wake)
        world.run(for_ms=400)
    world.gateway.current = None
    world.publish(LONG)
    world.run(for_ms=20)
    world.until_done(world.core.link_down)
    world.run(for_ms=200)
    world.until_done(world.core.link_up, world.now, True)
    world.run(for_ms=6000)
    world.until_done(world.core.lose_session, world.now)
    world.publish(5)
    world.settle()
    world.check()


def talk(world: Exchange) -> None:
    """Everything that a node and its gateway say, short and long; frames are lost, and a session."""
    world.run(lambda: world.gateway.current is not None, 40_000)
    gateway = world.gateway
    world.publish(1)
    world.publish(LONG)
    world.command([1])
    gateway.current.send(Encoded(b"\x4a" + bytes((wire.POLICY,)) + cbor.encode([60, 0])))
    gateway.current.notify(bytes((wire.PENDING, 2, wire.AWAKE, 5)))
    world.post(1, ["short"])
    world.run(for_ms=300)
    world.scarce(world.core.publish, 1, 5, world.now, False)
    world.scarce(world.core.log, 20, "a line")
    world.scarce(world.core.ask_time, world.now)
    world.ask("short")
    world.ask(LONG)
    world.command([LONG])
    world.post(2, [LONG])
    world.post(2, [LONG])  # again, while it is carried out or after
    world.run(for_ms=300)
    world.up.is_cut = True
    world.publish(2)
    world.publish(LONG + "!")
    world.command([2])
    world.run(for_ms=1500)
    world.up.is_cut, world.down.is_cut = False, True
    world.run(for_ms=700)
    world.down.is_cut = False
    world.publish(3)
    world.settle()
    world.check()  # a new session would hide what is left open in this one
    for value in range(4, 12):
        world.publish([value, "y" * 80])
    world.ask("more")
    world.run(for_ms=20)
    world.scarce(world.core.lose, world.now)  # as if nobody had answered: joins beside
    world.settle()
    world.check()


@pytest.fixture(autouse=True)
def fast_aead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "aead", AesCcm)


SCRIPTS: dict[str, tuple[Callable[[Exchange], None], int | None]] = {
    "talk": (talk, 1),
    "forget and sleep": (forget_and_sleep, None),
}


def each_point(name: str, each: int) -> int:
    """Play a script once for each point; of a place that is passed often for some: the first ones, the last, and others
    between, `each` of both kinds."""
    script, next_sequence = SCRIPTS[name]
    counting = Scarcity()
    script(Exchange(counting, next_sequence))
    numbers = chosen(counting.points, each)
    failures = []
    for number in numbers:
        scarcity = Scarcity(number)
        world = Exchange(scarcity, next_sequence)
        try:
            script(world)
            assert scarcity.failed is not None
        except Exception as error:
            failures.append((scarcity.failed, number, repr(error)[:150]))
    assert failures == []
    return len(numbers)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_shortage_at_any_step_loses_doubles_and_blocks_nothing(name: str) -> None:
    print(each_point(name, 1), "points")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_shortage_at_any_moment_loses_doubles_and_blocks_nothing(name: str) -> None:
    print(each_point(name, 1_000_000), "points")
