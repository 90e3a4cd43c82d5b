"""What an outbox throws away when it is full: each channel has a policy.

OLDEST  the oldest readings go (a channel without a policy)
NEWEST  what is stored stays: new readings are refused
LAST    the newest value is kept
THIN    every second reading goes, the newest stays; again and again
"""

OLDEST = 0
NEWEST = 1
LAST = 2
THIN = 3

_GENTLE_PASSES = 2  # of thinning; a third leaves an eighth, and then it is the turn of others


def keep(
    channels: "bytes | bytearray", sizes: "list[int]", policies: "dict[int, int]", room: int, is_gentle: bool
) -> "bytearray | None":
    """Choose which readings stay if all together may have `room` bytes: for each, oldest first, 1 or 0.

    As few go as will do; LAST goes first, then THIN, then OLDEST, and NEWEST never. `is_gentle`: OLDEST stays, too, and
    THIN keeps a quarter. None: it cannot be done.
    """
    kept = bytearray(b"\x01" * len(sizes))
    size = sum(sizes)
    if size > room:
        size = _halve(kept, channels, sizes, policies, LAST, size, 0)
    for _ in range(_GENTLE_PASSES):
        if size > room:
            size = _halve(kept, channels, sizes, policies, THIN, size, room)
    if not is_gentle:
        size = _cut(kept, channels, sizes, policies, (OLDEST,), size, room)
        before = size + 1
        while before > size > room:
            before = size
            size = _halve(kept, channels, sizes, policies, THIN, size, room)
        size = _cut(kept, channels, sizes, policies, (LAST, THIN), size, room)
    return kept if size <= room else None


def _halve(
    kept: bytearray,
    channels: "bytes | bytearray",
    sizes: "list[int]",
    policies: "dict[int, int]",
    policy: int,
    size: int,
    room: int,
) -> int:
    """Of each channel with this policy drop every second reading (of LAST all but the newest), older ones first.
    Return the size that is left."""
    stays: dict[int, bool] = {}  # whether the next older reading of the channel does
    drops: list[int] = []
    for i in range(len(sizes) - 1, -1, -1):
        channel = channels[i]
        if kept[i] and policies.get(channel, OLDEST) == policy:
            if not stays.get(channel, True):
                drops.append(i)
                if policy == THIN:
                    stays[channel] = True
            else:
                stays[channel] = False
    while drops and size > room:
        i = drops.pop()
        kept[i] = 0
        size -= sizes[i]
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
