"""The states of a mailbox item, and the one table of what leads from one to the next.

    queued ──▶ pending ◀──▶ sent ──▶ delivered | failed
       └───────────┴──────────┴────▶ expired | replaced | cancelled | dropped

`queued`: stored where the sender put it. `pending`: the gateway of the device has it. `sent`: in a frame to a device
that listens. Everything after that is final. People are told `pending` for `sent` too: until an answer comes both mean
that it may run, has run or will.
"""

from __future__ import annotations

QUEUED = "queued"
PENDING = "pending"
SENT = "sent"
DELIVERED = "delivered"  # the handler finished, status 0
FAILED = "failed"  # the handler or the device said another status, or the gateway gave up
EXPIRED = "expired"
REPLACED = "replaced"  # by a newer item of the same key
CANCELLED = "cancelled"
DROPPED = "dropped"  # the gateway could not take it: no room, no such device, unreadable

FINAL = frozenset({DELIVERED, FAILED, EXPIRED, REPLACED, CANCELLED, DROPPED})

# What happens to an item.
ARRIVE = "arrive"
REFUSE = "refuse"
SEND = "send"
STOP = "stop"  # the device stopped listening, without an answer to this item
DONE = "done"
ERROR = "error"
GIVE_UP = "give up"
EXPIRE = "expire"
REPLACE = "replace"
CANCEL = "cancel"

TRANSITIONS = {
    (QUEUED, ARRIVE): PENDING,
    (QUEUED, REFUSE): DROPPED,
    (QUEUED, EXPIRE): EXPIRED,
    (QUEUED, REPLACE): REPLACED,
    (PENDING, SEND): SENT,
    (PENDING, DONE): DELIVERED,  # the answer to an earlier attempt, which the device tells when it wakes
    (PENDING, ERROR): FAILED,
    (PENDING, GIVE_UP): FAILED,
    (PENDING, EXPIRE): EXPIRED,
    (PENDING, REPLACE): REPLACED,
    (PENDING, CANCEL): CANCELLED,
    (SENT, STOP): PENDING,
    (SENT, DONE): DELIVERED,
    (SENT, ERROR): FAILED,
}

# An item that is out with the device may be running: these wait until it answers (then they never happen) or stops.
AFTER_STOP = frozenset({EXPIRE, REPLACE, CANCEL})


def following(state: str, event: str) -> str:
    """The state after `event`; ValueError if it cannot happen in this state."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"an item that is {state} cannot {event}") from None
