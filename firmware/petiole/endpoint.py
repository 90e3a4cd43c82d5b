"""A node's side of the protocol as a whole: joins, keeps a session, and knows what is still to be said.

Sans-IO: frames in, events and frames out, `now` in ms of a clock that never goes back. Events are tuples:
  ("online",)                              a join is through
  ("durable", item)                        a confirmed reading is on the gateway's disk
  ("command", id, number, arguments)       to be answered with `reply`
  ("reply", item, status, value)           of a request of ours
  ("failed", item, reason)                 a request without a known outcome: "timed_out" or "session_lost"
  ("refused", reason)                      a REJECT of a join
  ("mail", item, number, arguments, again) a command that waited; `again`: it may have been begun before; see `finish`
  ("awake", seconds)                       the gateway asks the node to stay awake
  ("policy", period_s, spacing_ms)         how often the gateway wants to hear from the node

Any call may raise MemoryError. Then nothing was taken of what the caller gave; of a frame perhaps a part was, of which
the next `receive` or `expire` has the events, and no ack is owed for it: what the peer says again does the rest.
"""

from petiole import frame as frames
from petiole import manifest as manifests
from petiole import states, wire
from petiole.conversation import Conversation
from petiole.items import Encoded
from petiole.session import Session

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Callable

    from petiole.contracts import Outbox
    from petiole.frame import Split
    from petiole.join import Joiner

_TIME_PATIENCE_MS = 3 * wire.TIMEOUT_INITIAL_MS  # the question, and twice more


class NodeEndpoint(Conversation):
    """`random(n)` gives n bytes of a cryptographic source. `manifest` is encoded."""

    def __init__(
        self,
        joiner: "Joiner",
        random: "Callable[[int], bytes]",
        manifest: bytes,
        outbox: "Outbox",
        boot: int = 0,
        reset_reason: int = 0,
    ) -> None:
        super().__init__(manifest, outbox)
        self.state = states.OFFLINE
        self.joins_total = 0
        self.origin = b""  # of the session: its JOIN_REQUEST and the nonce of the accept
        self.joiner = joiner
        self._random = random
        self._boot = boot
        self._reset_reason = reset_reason
        self._is_linked = False
        self._is_addressed = False
        self._join_at = 0
        self._join_tries = 0
        self._request_sent_at = 0  # the first time
        self._refused_wait = wire.REFUSED_RETRY_MS
        self._return_at: int | None = None  # mail that was given back is asked for again
        self._rejected_at: int | None = None
        self._echoes: list[bytes] = []

    # The link --------------------------------------------------------------------------------------------

    def link_up(self, now: int, is_addressed: bool) -> None:
        """A link carries frames from now on. `is_addressed`: it is shared by several nodes."""
        self._is_linked = True
        self._is_addressed = is_addressed
        if self.session is not None:
            self.session.is_addressed = is_addressed
        self.state = states.after(self.state, states.LINK_UP)
        if self.state != states.ONLINE:
            self._join_soon(now)

    def lose_session(self, now: int) -> None:
        """Give up the session with all that waits in it, and join anew. The outbox stays, and what it holds is sent."""
        if self.state == states.ONLINE:
            self.lose(now)
        self.session = None

    def link_down(self) -> None:
        """Nothing can be sent. Session and outbox stay."""
        self._is_linked = False

    # Sleep -----------------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """The node sleeps: nothing is sent and no time runs out until `wake`."""
        if self.session is not None:
            self.session.suspend()

    def wake(self) -> None:
        """The node has slept. The gateway hears of it, also if there is nothing to say."""
        session = self.session
        if session is not None:
            session.is_suspended = False
            self._feed()
            self.mail.say_returned(session)
            if not session.queue:
                session.send(Encoded(bytes((wire.PING,))))

    def is_settled(self, now: int) -> bool:
        """Whether a node may sleep: everything is said and answered, and the gateway has nothing more for it. Readings
        that a busy gateway does not take are no reason to stay awake."""
        session = self.session
        return (
            session is not None
            and self.state == states.ONLINE
            and not self._open
            and not self.executing
            and self.mail.is_idle
            and session.is_settled(now)
        )

    # Frames out ------------------------------------------------------------------------------------------

    def next_frame(self, now: int) -> bytes | None:
        """The next frame to send, or None. To be called until None after every call above and at `deadline`."""
        if not self._is_linked:
            return None
        if self._wants_join() and now >= self._join_at:
            return self._sent(self._join_request(now))
        if self.session is None:
            return None
        self._keep_alive(now)
        self._feed()
        return self._sent(self.session.next_frame(now))

    def deadline(self, now: int) -> int | None:
        """When `next_frame` and `expire` are to be called again without any other event."""
        times = [item.expires_at for item in self._open]
        if self._is_linked:
            if self._wants_join():
                times.append(self._join_at)
            if self.session is not None:
                self._feed()
                is_idle = self._is_idle() and not self.session.is_suspended
                times.append(self.session.opened_at + wire.KEEPALIVE_MS if is_idle else now + wire.KEEPALIVE_MS)
                candidate = self.session.deadline(now)
                if candidate is not None:
                    times.append(candidate)
                if self._question is not None and self._question.is_done and not self.session.is_suspended:
                    times.append(self._time_asked_at + wire.TIMEOUT_INITIAL_MS)
                if self._return_at is not None:
                    times.append(self._return_at)
        return min(times) if times else None

    def _sent(self, frame: bytes | None) -> bytes | None:
        if frame is not None:
            if len(self._echoes) == wire.ECHO_MEMORY:
                self._echoes.pop(0)
            self._echoes.append(frame[-wire.ECHO_LENGTH :])
        return frame

    def _wants_join(self) -> bool:
        return self.state in (states.JOINING, states.REJOINING)

    def _join_soon(self, now: int) -> None:
        self._join_at = now
        self._join_tries = 0

    def _join_request(self, now: int) -> bytes:
        if self._join_tries % wire.JOIN_TRIES == 0 or not self.joiner.request:
            self.joiner.start(
                self._random(wire.JOIN_RANDOM_LENGTH),
                self._boot,
                self._reset_reason,
                manifests.digest(self.manifest),
                not self.outbox.has_memory,
            )
            self._request_sent_at = now
        wait = min(wire.JOIN_RETRY_MS << min(self._join_tries, 6), wire.JOIN_RETRY_MAX_MS)
        self._join_tries += 1
        self._join_at = now + wait + wait * self._random(1)[0] // 1024  # up to a quarter more
        return self.joiner.request

    def _is_idle(self) -> bool:
        session = self.session
        return session is not None and not session.queue and not session.recovery.in_flight()

    def _keep_alive(self, now: int) -> None:
        session = self.session
        if session is None:
            return
        if session.silent_timeouts >= wire.SILENT_TIMEOUTS or session.send_counter >= wire.COUNTER_LIMIT:
            self.lose(now)
        self._insist_on_time(session, now)
        self._insist_on_mail(session, now)
        if self._is_idle() and not session.is_suspended and now - session.opened_at >= wire.KEEPALIVE_MS:
            session.send(Encoded(bytes((wire.PING,))))

    def _insist_on_mail(self, session: Session, now: int) -> None:
        """Say what was given back while the node stays awake: not at once, as there was no room for it."""
        if session.is_suspended or not self.mail.returned:
            self._return_at = None
        elif self._return_at is None:
            self._return_at = now + wire.LISTENING_MS
        elif now >= self._return_at:
            self._return_at = None
            self.mail.say_returned(session)

    def lose(self, now: int) -> None:
        """Nobody answers: join beside the session, which goes on if it is heard."""
        if self.state == states.ONLINE:
            self._join_soon(now)
        self.state = states.after(self.state, states.SILENT)

    # Frames in -------------------------------------------------------------------------------------------

    def receive(self, frame: bytes, now: int) -> "list[tuple[object, ...]]":
        """Take what came over the link. Bad frames are dropped and counted in `dropped`."""
        part = frames.split(frame)
        reason = part if isinstance(part, str) else self._receive(part, now)
        if reason:
            self._count(reason)
        return self._told()

    def _receive(self, part: "Split", now: int) -> str:
        """Return a drop reason, or ""."""
        if part.type == wire.JOIN_ACCEPT:
            return self._accept(part, now)
        if part.type == wire.REJECT:
            return self._reject(part, now)
        session = self.session
        if session is None or part.type == wire.JOIN_REQUEST:
            return "unexpected"
        if part.address is not None and part.address != session.address:
            return "unknown_session"
        if part.type == wire.ACK:
            if not session.receive_ack(part, now):
                return "unexpected"
            self.mail.pending = 0
        else:
            incoming = session.open_data(part, now)
            if isinstance(incoming, str):
                return incoming
            if incoming.has_acks:
                self.mail.pending = 0  # unless it says otherwise
            for record in incoming.records:
                self._take(record, now)
            session.settle(incoming, now)
        self._echoes.clear()  # whoever rejects what was sent before is not the one with the session
        if self.state == states.REJOINING and session.send_counter < wire.COUNTER_LIMIT:
            self.joiner.request = b""
        if session.send_counter < wire.COUNTER_LIMIT:
            self.state = states.after(self.state, states.OPENED)
        self._collect()
        return ""

    def _accept(self, part: "Split", now: int) -> str:
        if not self._wants_join():
            return "unexpected"
        accept = self.joiner.accept(part, self.outbox.next_sequence)
        if accept is None:
            return "tag" if self.joiner.request else "unexpected"
        old = self.session
        if not self.outbox.has_memory or accept.sequence >= self.outbox.next_sequence:
            # Numbers above our own are another outbox's: what we keep is not in them.
            self.outbox.rebase(accept.sequence)
        self._trim(accept.sequence)
        session = Session(accept.keys, accept.address, wire.WINDOW_UPLINK, now)
        session.is_addressed = self._is_addressed
        # An exact number may be above what the gateway has taken: no number is shortened in relation to it.
        session.acked_sequence = 0 if accept.is_exact else accept.sequence
        # An exact number leaves room for what an earlier life of the outbox has on the way; 0 leaves none.
        session.needs_floor = accept.sequence != self.outbox.oldest_sequence - 1 or (
            accept.is_exact and accept.sequence > 0
        )
        session.dropped = self.dropped
        self.clock.sample(accept.time, self._request_sent_at, now, accept.is_doubtful)
        session.clock_offset = self.clock.offset
        if now - self._request_sent_at > wire.TIMEOUT_MIN_MS or accept.is_doubtful:
            # An accept that comes again has the time of the first: somewhere in this long round trip. That of a
            # gateway whose clock was set back is only above all before.
            session.messages_from = now + _TIME_PATIENCE_MS
            self._ask_time(session, now)
        else:
            self._question = None
        self._carry_over(old, session)
        if not session.queue and not self.outbox.items:
            session.send(Encoded(bytes((wire.PING,))))  # the first frame makes the session current
        state = states.after(self.state, states.ACCEPTED)
        seen: list[int] = []
        executing: list[int] = []
        given_back: list[int] = []
        joins = self.joins_total + 1
        self._events.append(("online",))
        # From here on no memory is needed; until here the old session goes on, and the join is begun again.
        self.session = session
        self.origin = accept.origin
        self.state = state
        self.joins_total = joins
        self._refused_wait = wire.REFUSED_RETRY_MS
        self._fed_sequence = 0
        self.seen = seen
        self.executing = executing
        self._described = None
        self.mail.returned = given_back  # all that has no result comes again in a new session
        return ""

    def _reject(self, part: "Split", now: int) -> str:
        if part.echo not in self._echoes:
            return "echo"
        reason = part.header & 15
        if reason == wire.REJECT_SESSION:
            if self.session is None:
                return ""
            if self._rejected_at is not None and now - self._rejected_at < wire.REJOIN_AFTER_REJECT_MS:
                return ""
            self._rejected_at = now
            self.lose(now)
            # Another gateway may have the session, and its answer be on the way: that ends the join.
            self._join_at = max(self._join_at, now + wire.REJECTED_WAIT_MS)
        elif self._wants_join():
            self._join_at = now + self._refused_wait
            self._join_tries = 0
            self._refused_wait = min(2 * self._refused_wait, wire.REFUSED_RETRY_MAX_MS)
            self._events.append(("refused", reason))
        return ""
