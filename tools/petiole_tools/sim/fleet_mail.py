"""Commands for all nodes of a sleeping fleet, from a seed, and what became of each of them.

They are put into the leaf's stream as a program at the site would; what the gateway says of their ends is compared with
what the nodes have carried out.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from petiole_gateway.app import Gateway
from petiole_gateway.hub.mailbox_states import DELIVERED, FINAL
from petiole_gateway.nats.api import Document, JetStreamApi, StoredMessage
from petiole_gateway.nats.errors import LinkError
from petiole_gateway.nats.listing import read_stream
from petiole_gateway.nats.mailbox_items import item_mail
from petiole_gateway.nats.subjects import DOCUMENT_STREAM, document_subject, leaf_notice_subject
from petiole_tools.sim.sleepy_node import COMMAND, SleepyNode
from petiole_tools.sim.virtual_loop import running
from petiole_tools.sim.virtual_world import Answers, wall_ms

# Of all items: with a key, so that a newer one takes their place; too short-lived for most periods.
KEYED = 0.2
BRIEF = 0.1
# Periods that an item waits: a brief one is as often too late as not, any other outlasts some wakes in vain.
BRIEF_PERIODS = 0.5
PERIODS = 20.0


@dataclass(slots=True)
class Letter:
    """One item. `value` is its argument, and which of its node's items it is."""

    node: str
    value: int
    key: str | None


@dataclass
class MailSummary:
    """`states` as the gateway told them. `wrong`: ends that do not agree with what the nodes did."""

    sent: int = 0
    refused: int = 0  # the box was full
    states: dict[str, int] = field(default_factory=dict)
    again: int = 0  # carried out once more, and the handler was told so
    wrong: list[str] = field(default_factory=list)


class FleetMail:
    """`every_s`: between two items of a node, on average. `run` sends, `check` compares."""

    def __init__(
        self, gateway: Gateway, answers: Answers, nodes: Sequence[SleepyNode], *, site: str, every_s: float, seed: int
    ) -> None:
        self._gateway = gateway
        self._answers = answers
        self._nodes = {node.plan.name: node for node in nodes}
        self._site = site
        self._every_s = every_s
        self._luck = random.Random(f"{seed}/mail")  # noqa: S311 - luck that can be repeated
        self._api = JetStreamApi(gateway.connection.client)
        self._letters: dict[str, Letter] = {}
        self._counts: Counter[str] = Counter()
        self._refused = 0

    async def run(self) -> None:
        """Send until cancelled."""
        loop = running()
        due = [(loop.time() + self._luck.expovariate(1 / self._every_s), name) for name in self._nodes]
        heapq.heapify(due)
        while True:
            at, name = due[0]
            await asyncio.sleep(max(0.0, at - loop.time()))
            await self._send(name)
            heapq.heapreplace(due, (at + self._luck.expovariate(1 / self._every_s), name))

    async def _send(self, name: str) -> None:
        period_s = self._nodes[name].plan.period_s
        key = "level" if self._luck.random() < KEYED else None
        periods = BRIEF_PERIODS if self._luck.random() < BRIEF else PERIODS
        letter = Letter(name, self._counts[name], key)
        id = f"{name}-{letter.value}"
        mail = item_mail(
            "out",
            self._site,
            name,
            COMMAND,
            [letter.value],
            now=wall_ms(),
            expires_in_s=period_s * periods,
            id=id,
            key=key,
        )
        # The server announces it to the gateway when it has stored it.
        notice = self._answers.expect_message(f"{leaf_notice_subject(self._site)}.{mail.subject}")
        try:
            await self._api.publish(mail.subject, mail.payload, mail.headers)
        except LinkError:
            self._answers.forget(notice)
            self._refused += 1
            return
        self._counts[name] += 1
        self._letters[id] = letter

    def has_mail(self, node: SleepyNode) -> bool:
        """Whether the end of something for a node is still to come: what is out with one that lost its power too."""
        assert self._gateway.mail is not None
        return bool(self._gateway.mail.mailbox.items(node.plan.name))

    async def check(self) -> MailSummary:
        """What became of all items."""
        told: dict[str, Document] = {}

        def take(message: StoredMessage) -> None:
            document = json.loads(message.payload)
            told[document["id"]] = document

        subjects = document_subject(self._site, ">")
        await read_stream(self._api.client, self._api, DOCUMENT_STREAM, subjects, 1, take)
        out = MailSummary(sent=len(self._letters), refused=self._refused)
        states: Counter[str] = Counter()
        for id, letter in self._letters.items():
            document = told.get(id, {"state": "unknown"})
            states[document["state"]] += 1
            runs = [again for value, again in self._nodes[letter.node].executed if value == letter.value]
            out.again += len(runs[1:])
            problem = _problem(document, letter, runs)
            if problem:
                out.wrong.append(f"{id}: {problem}")
        for node in self._nodes.values():
            keyed = [v for v, again in node.executed if not again and self._letters[f"{node.plan.name}-{v}"].key]
            if keyed != sorted(keyed):
                out.wrong.append(f"{node.plan.name}: a newer item of the key ran before an older one")
        out.states = dict(sorted(states.items()))
        return out


def _problem(document: Document, letter: Letter, runs: list[bool]) -> str:
    state = document["state"]
    if state not in FINAL:
        return f"it is {state} for ever"
    if not all(runs[1:]):
        return "it ran twice, and the handler was not told"
    if state == DELIVERED:
        if not runs:
            return "it is delivered and never ran"
        return "" if document.get("value") == letter.value else f"its result is {document.get('value')!r}"
    if state == "failed":
        return f"it failed with {document.get('status')}"
    # One that was out when its time was over, or a newer one came, may have run: its answer was lost.
    return "it ran and was never sent" if runs and not document["attempts"] else ""
