from petiole import states
from tests.core.support import raises

STATES = (states.OFFLINE, states.JOINING, states.ONLINE, states.REJOINING)
EVENTS = (states.LINK_UP, states.RESUMED, states.ACCEPTED, states.OPENED, states.SILENT)

# PROTOCOL.md, section 16, the node's table, as (state, event, next).
TABLE = (
    ("offline", "link_up", "joining"),
    ("offline", "resumed", "online"),
    ("joining", "link_up", "joining"),
    ("joining", "accepted", "online"),
    ("online", "link_up", "online"),
    ("online", "opened", "online"),
    ("online", "silent", "rejoining"),
    ("rejoining", "link_up", "rejoining"),
    ("rejoining", "silent", "rejoining"),
    ("rejoining", "opened", "online"),
    ("rejoining", "accepted", "online"),
)


def test_every_transition_of_the_table_is_made():
    for state, event, following in TABLE:
        assert states.after(state, event) == following


def test_no_other_transition_is_possible():
    known = [(state, event) for state, event, _ in TABLE]
    for state in STATES:
        for event in EVENTS:
            if (state, event) not in known:
                raises(KeyError, states.after, state, event)
    assert len(states._NEXT) == len(TABLE)


def test_every_state_is_left_and_reached():
    assert sorted({following for _, _, following in TABLE}) == sorted(s for s in STATES if s != states.OFFLINE)
    assert sorted({state for state, _, _ in TABLE}) == sorted(STATES)
