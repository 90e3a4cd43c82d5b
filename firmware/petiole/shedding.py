"""What an outbox throws away when it is full: each channel has a policy.

OLDEST  the oldest readings go (a channel without a policy)
NEWEST  what is stored stays: new readings are refused
LAST    the newest value is kept
THIN    of readings that follow each other closest every second one goes, the newest stays; again and again, so what is
        left of a long time lies evenly in it
"""

OLDEST = 0
NEWEST = 1
LAST = 2
THIN = 3

# One of so many stays when channels are thinned, and then it is the turn of others. Gently, those are other segments;
# else readings that will be the oldest the next time, too, and what was thinned for them is filled with newer ones.
_GENTLE = 4
_SHARE = 2


def keep(
    channels: "bytes | bytearray",
    sizes: "list[int]",
    moments: "list[int]",
    policies: "dict[int, int]",
    room: int,
    is_gentle: bool,
) -> "bytearray | None":
    """Choose which readings stay if all together may have `room` bytes: for each, oldest first, 1 or 0.

    `moments`: when they were taken, of any clock and in any unit.
    As few go as will do; LAST goes first, then half of THIN, then OLDEST, then the rest of THIN, and NEWEST never.
    `is_gentle`: OLDEST stays, too, and THIN keeps a quarter. None: it cannot be done.
    """
    kept = bytearray(b"\x01" * len(sizes))
    size = sum(sizes)
    if size > room:
        size = _last(kept, channels, sizes, policies, size)
    thinned = sum([1 for channel in channels if policies.get(channel, OLDEST) == THIN])
    most = thinned - thinned // (_GENTLE if is_gentle else _SHARE)
    size = _thin(kept, channels, sizes, moments, policies, size, room, most)
    if not is_gentle:
        size = _cut(kept, channels, sizes, policies, (OLDEST,), size, room)
        size = _thin(kept, channels, sizes, moments, policies, size, room, thinned)
        size = _cut(kept, channels, sizes, policies, (LAST, THIN), size, room)
    return kept if size <= room else None


def _last(
    kept: bytearray, channels: "bytes | bytearray", sizes: "list[int]", policies: "dict[int, int]", size: int
) -> int:
    """Drop all but the newest reading of each channel with this policy. Return the size that is left."""
    seen: list[int] = []
    for i in range(len(sizes) - 1, -1, -1):
        channel = channels[i]
        if policies.get(channel, OLDEST) == LAST:
            if channel in seen:
                kept[i] = 0
                size -= sizes[i]
            else:
                seen.append(channel)
    return size


def _thin(
    kept: bytearray,
    channels: "bytes | bytearray",
    sizes: "list[int]",
    moments: "list[int]",
    policies: "dict[int, int]",
    size: int,
    room: int,
    most: int,
) -> int:
    """Of readings of thinned channels that follow each other about as closely as the closest do, drop every second one,
    older ones first, and again, until the rest fits or `most` are gone. Return the size that is left."""
    least = 0
    while size > room and most > 0 and least >= 0:
        reach = least + (least >> 1)
        least = -1  # distance of two that stay
        newer: dict[int, int] = {}  # moment of the next newer reading of the channel that stays
        drops: list[int] = []
        for i in range(len(sizes) - 1, -1, -1):
            channel = channels[i]
            if kept[i] and policies.get(channel, OLDEST) == THIN:
                if channel in newer:
                    distance = newer[channel] - moments[i]
                    if distance <= reach:
                        drops.append(i)
                        continue
                    if least < 0 or distance < least:
                        least = distance
                newer[channel] = moments[i]
        while drops and size > room and most > 0:
            i = drops.pop()
            kept[i] = 0
            size -= sizes[i]
            most -= 1
    return size


def _cut(
    kept: bytearray,
    channels: "bytes | bytearray",
    sizes: "list[int]",
    policies: "dict[int, int]",
    chosen: "tuple[int, ...]",
    size: int,
    room: int,
) -> int:
    """Drop the oldest readings of channels with these policies. Return the size that is left."""
    for i in range(len(sizes)):
        if size <= room:
            break
        if kept[i] and policies.get(channels[i], OLDEST) in chosen:
            kept[i] = 0
            size -= sizes[i]
    return size
