"""All of it, or nothing: where a list that cannot grow would leave others that did."""

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import CborValue


def append_all(lists: "tuple[list[CborValue], ...]", values: "tuple[object, ...]") -> None:
    """Append to each list its value. Raises MemoryError; then all are as they were."""
    sizes = [len(each) for each in lists]
    try:
        for position in range(len(lists)):
            lists[position].append(values[position])
    except MemoryError:
        for position in range(len(lists)):
            while len(lists[position]) > sizes[position]:
                lists[position].pop()
        raise
