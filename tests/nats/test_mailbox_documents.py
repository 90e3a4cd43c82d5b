"""Documents on their way into a bucket, while the server that has it is away."""

from __future__ import annotations

import asyncio
import gc

from nats_rig import SITE
from tests.gateway.memory import NullLogger

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import Connection
from petiole_gateway.nats.mailbox_documents import DocumentWriter


def away() -> DocumentWriter:
    connection = Connection(NullLogger())
    return DocumentWriter(connection, JetStreamApi(connection.client), site=SITE, is_remote=True)


def futures() -> int:
    gc.collect()
    return sum(isinstance(each, asyncio.Future) for each in gc.get_objects())


async def test_what_is_told_again_and_again_while_the_hub_is_away_is_kept_once() -> None:
    documents = away()
    before = futures()
    for number in range(1000):
        documents.put("kiln", b"%d" % number)
        documents.delete("shed", 60)
    assert documents.pending == 2
    assert futures() - before < 10


async def test_whoever_waits_for_a_document_and_gives_up_leaves_nothing_behind() -> None:
    documents = away()
    before = futures()
    for _ in range(1000):
        documents.stored("kiln.a", b"{}").cancel()
    assert documents.pending == 1
    assert futures() - before < 10


async def test_a_document_is_withdrawn_unless_somebody_waits_for_it() -> None:
    documents = away()
    documents.put("kiln.a", b"{}")
    waited_for = documents.stored("kiln.b", b"{}")
    documents.put("kiln.b", b"[]")
    for name in ("kiln.a", "kiln.b", "kiln.c"):
        documents.withdraw(name)
    assert documents.pending == 1
    waited_for.cancel()
    documents.withdraw("kiln.b")
    assert documents.pending == 0
