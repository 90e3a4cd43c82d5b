"""What goes into the next frame of a session, of all that waits."""

from petiole.items import Fragment, Message

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.items import Item
    from petiole.records import Writer
    from petiole.session import Session

_SHORTAGE_MS = 1000  # a message that there is no memory for waits so long: others are sent, and give memory back


def fill(session: "Session", writer: "Writer", now: int) -> "tuple[list[Item], list[Item]]":
    """Write items of the queue into the frame, oldest first, as many as fit. Returns them, and what stays in the queue.
    Changes nothing, but that an item too long for a frame is in parts afterwards."""
    written: list[Item] = []
    kept: list[Item] = []
    is_empty = True  # but for what asks for no ack
    is_full = False
    position = 0
    while position < len(session.queue):
        item = session.queue[position]
        position += 1
        if item.is_done:
            continue
        if is_full or session.is_held(item, now):
            kept.append(item)
            continue
        if not item.write(writer, session, now):
            if is_empty and not isinstance(item, Fragment):
                item.is_long = True
                position -= 1
                if not session.is_held(item, now):
                    _cut(session, position, now)
            else:
                is_full = True
                kept.append(item)
            continue
        written.append(item)
        if item.is_reliable:
            is_empty = False
        if isinstance(item, Fragment):
            is_full = True  # its data runs to the end of the frame
    return written, kept


def _cut(session: "Session", position: int, now: int) -> None:
    """Replace an item of the queue by its fragments."""
    item = session.queue[position]
    id = session.send_counter & 0xFFFF
    try:
        message = Message(item, session.messages.next_number, item.message(session, now))
        queue = session.queue[:position] + message.parts + session.queue[position + 1 :]
        session.messages.add(message)
    except MemoryError:
        session.messages_from = max(session.messages_from, now + _SHORTAGE_MS)
        raise
    session.queue = queue
    item.left(id)
