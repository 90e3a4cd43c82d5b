"""The states of a node (PROTOCOL.md, section 16). Only this table changes a state."""

OFFLINE = "offline"
JOINING = "joining"
ONLINE = "online"
REJOINING = "rejoining"  # a session exists; a new one is wanted

LINK_UP = "link_up"
ACCEPTED = "accepted"
RESUMED = "resumed"  # a session that was kept over a sleep
OPENED = "opened"  # a frame of the session
SILENT = "silent"  # timeouts in a row, a REJECT of the session, or a used-up counter

_NEXT = {
    (OFFLINE, LINK_UP): JOINING,
    (OFFLINE, RESUMED): ONLINE,
    (JOINING, LINK_UP): JOINING,
    (JOINING, ACCEPTED): ONLINE,
    (ONLINE, LINK_UP): ONLINE,
    (ONLINE, OPENED): ONLINE,
    (ONLINE, SILENT): REJOINING,
    (REJOINING, LINK_UP): REJOINING,
    (REJOINING, SILENT): REJOINING,
    (REJOINING, OPENED): ONLINE,
    (REJOINING, ACCEPTED): ONLINE,
}


def after(state: str, event: str) -> str:
    """The state after an event. KeyError: the event cannot happen in this state."""
    return _NEXT[(state, event)]
