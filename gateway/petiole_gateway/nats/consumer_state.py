"""What a server keeps of a consumer on disk, when a power cut has torn it.

nats-server 2.15 writes that file again and again without waiting for the disk. When it cannot read it at its start
it leaves the consumer out, but not its folder, and from then on the consumer can be neither created nor deleted. With
the folder gone the next CONSUMER.CREATE succeeds; the server need not be stopped for that.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .errors import ApiError, ConsumerStateError

# "error creating store for consumer" (nats-server errors.json).
_STORE_ERR_CODE = 10012


def is_unreadable(error: ApiError) -> bool:
    """The answer to CONSUMER.CREATE where such files lie."""
    return error.err_code == _STORE_ERR_CODE


def remove_consumer_state(store_dir: Path | None, stream: str, consumer: str) -> Path:
    """Remove the files of a consumer that the server does not have; the folder that they were in.

    `store_dir` as in the server's settings, None if that is not known. ConsumerStateError if it is not known
    which files these are, or they cannot be removed.
    """
    if store_dir is None:
        raise ConsumerStateError(stream, consumer, "[nats] store_dir does not say where they are")
    place = f"*/streams/{stream}/obs/{consumer}"
    found = [*store_dir.glob(f"jetstream/{place}"), *store_dir.glob(place)]
    if len(found) != 1:
        raise ConsumerStateError(stream, consumer, f"{len(found)} folders {place} in {store_dir}")
    try:
        shutil.rmtree(found[0])
    except OSError as error:
        raise ConsumerStateError(
            stream, consumer, f"{error.filename or found[0]}: {error.strerror or error}"
        ) from error
    return found[0]
