"""A whole gateway with its leaf server, nodes on UDP, and a client beside them."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from petiole import join
from petiole.endpoint import NodeEndpoint
from petiole.outbox import Outbox
from petiole_gateway.aead import AesCcm
from petiole_gateway.app import Gateway
from petiole_gateway.clock import monotonic_ms, wall_ms
from petiole_gateway.nats.leaf_access import read_access
from petiole_gateway.settings.config import Config

from .memory import MANIFEST, NullLogger
from .real_time import PATIENCE_S, until
from .sleepers import SLEEPY

SITE = "site1"


def free_udp_port() -> int:
    """A port nobody has at the moment; nodes find a gateway that was restarted where it was."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class UdpNode:
    """A node's endpoint on a socket of its own. Commands and mail are answered by what `handlers` return; None answers
    not. One that is `sleepy` sleeps as soon as it may, until `wake`."""

    def __init__(self, key: bytes, port: int, *, seed: int = 1, sleepy: bool = False, has_memory: bool = True) -> None:
        self.endpoint = NodeEndpoint(
            join.Joiner(AesCcm, key),
            random.Random(seed).randbytes,
            SLEEPY if sleepy else MANIFEST,
            Outbox(2000, 1 if has_memory else None),
            1,
            1,
        )
        self.is_sleepy = sleepy
        self.is_asleep = False
        self.events: list[tuple[Any, ...]] = []
        self.executed: list[tuple[int, Any]] = []
        self.handlers: dict[int, Any] = {0: lambda arguments: (0, {"led": arguments})}
        self._timer: asyncio.TimerHandle | None = None
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.connect(("127.0.0.1", port))
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._readable)
        self.endpoint.link_up(monotonic_ms(), True)
        self.pump()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()

    def _readable(self) -> None:
        try:
            frame = self._sock.recv(300)
        except OSError:  # nobody is there at the moment
            return
        if self.is_asleep:
            return
        events: list[tuple[Any, ...]] = self.endpoint.receive(frame, monotonic_ms())
        for event in events:
            self.events.append(event)
            if event[0] == "command":
                _, id, number, arguments = event
                self.executed.append((number, arguments))
                if number in self.handlers:
                    self.endpoint.reply(id, *self.handlers[number](arguments))
            elif event[0] == "mail":
                _, item, number, arguments, _ = event
                self.executed.append((number, arguments))
                if number in self.handlers:
                    self.endpoint.finish(item, *self.handlers[number](arguments))
        self.pump()
        if self.is_sleepy and self.endpoint.is_settled(monotonic_ms()):
            self.is_asleep = True
            self.endpoint.suspend()
            self.endpoint.link_down()

    def wake(self) -> None:
        """The time of sleep is over."""
        self.is_asleep = False
        self.endpoint.link_up(monotonic_ms(), True)
        self.endpoint.wake()
        self.pump()

    def publish(self, *values: Any) -> None:
        for value in values:
            self.endpoint.publish(0, value, monotonic_ms())
        self.pump()

    async def ask(self, subject: str, arguments: Any = None, timeout_ms: int = 5000) -> tuple[Any, ...]:
        """(status, value) of the answer, or ("failed", reason)."""
        item = self.endpoint.request(subject, arguments, timeout_ms, monotonic_ms())
        self.pump()
        await until(lambda: any(e[0] in ("reply", "failed") and e[1] is item for e in self.events))
        event = next(e for e in self.events if e[0] in ("reply", "failed") and e[1] is item)
        return event[2:] if event[0] == "reply" else ("failed", event[2])

    def pump(self) -> None:
        now = monotonic_ms()
        self.events += self.endpoint.expire(now)
        while (frame := self.endpoint.next_frame(now)) is not None:
            try:
                self._sock.send(frame)
            except OSError:  # as said by the network of the frame before
                continue
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.endpoint.deadline(now)
        if deadline is not None:
            delay_s = max(0.001, (deadline - now) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.pump)

    @property
    def is_empty(self) -> bool:
        return not self.endpoint.outbox.items


class World:
    """One state folder; the gateway on it can be stopped and started again.

    `clock_error_ms`: its clock is ahead by so much.
    """

    def __init__(self, folder: Path) -> None:
        self.udp_port = free_udp_port()
        self.config = Config.model_validate(
            {"site": SITE, "state_dir": str(folder / "state"), "udp": {"listen": f"127.0.0.1:{self.udp_port}"}},
            context={"base": folder},
        )
        self.logger = NullLogger()
        self.clock_error_ms = 0
        self.gateway: Gateway
        self.client = Client()
        self._stack = AsyncExitStack()
        self._nodes: list[UdpNode] = []
        self._is_trusted: bool | None = None

    def wall(self) -> int:
        return wall_ms() + self.clock_error_ms

    async def start(self) -> None:
        self.gateway = Gateway(self.config, self.logger, wall=self.wall)
        if self._is_trusted is not None:
            self.trust_clock(self._is_trusted)
        await self.gateway.start()
        self._stack.push_async_callback(self.gateway.stop)
        access = read_access(self.config.leaf_dir)
        self.client = Client()
        await self.client.connect(
            access.url,
            user=access.user,
            password=access.password,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,  # type: ignore[arg-type]  # it is slept, so a fraction is as good
            error_cb=self._heard,
        )
        self._stack.push_async_callback(self.client.close)

    async def _heard(self, error: Exception) -> None:
        self.logger.debug("client", error=repr(error))

    def trust_clock(self, is_trusted: bool) -> None:
        """What the kernel says of its clock is the machine's; here it is said for it, over restarts too."""
        self._is_trusted = is_trusted
        if hasattr(self, "gateway"):
            self.gateway.clock._is_doubtful = not is_trusted
            self.gateway.clock._asked_at = float("inf")

    async def stop(self) -> None:
        await self._stack.aclose()

    async def end(self) -> None:
        await self.stop()
        for node in self._nodes:
            node.close()

    async def node(self, name: str, *, seed: int = 1, sleepy: bool = False) -> UdpNode:
        """A device added over NATS, and its node, joined."""
        added = await self.ask("device.add", {"name": name, "key": secrets.token_hex(16)})
        node = UdpNode(bytes.fromhex(added["key"]), self.udp_port, seed=seed, sleepy=sleepy)
        self._nodes.append(node)
        await until(lambda: self.gateway.hub.device(name).uplinks.is_open)
        return node

    async def ask(self, method: str, arguments: Any = None) -> Any:
        """A method of the gateway; its error is an answer, too."""
        return json.loads((await self.request(f"gw.{SITE}.{method}", arguments)).data)

    async def subscribed(self) -> None:
        """Return when the server knows all subscriptions. The library's flush() overtakes them."""
        await self.request("$SRV.PING.petiole-gateway")

    async def request(self, subject: str, arguments: Any = None, timeout_s: float = PATIENCE_S, **headers: str) -> Msg:
        payload = b"" if arguments is None else json.dumps(arguments).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(subject, payload, timeout=timeout_s, headers=named or None)

    async def command(self, device: str, command: str, arguments: Any = None, **headers: str) -> tuple[int, Any]:
        """(0, result), or the code and text of the error."""
        reply = await self.request(f"dev.{SITE}.{device}.{command}", arguments, **headers)
        code = (reply.headers or {}).get("Nats-Service-Error-Code")
        if code is None:
            return 0, json.loads(reply.data)
        return int(code), (reply.headers or {})["Nats-Service-Error"]

    def waiting(self, device: str) -> int:
        """Items of mail that are to be sent."""
        assert self.gateway.mail is not None
        return self.gateway.mail.waiting(device)

    async def stored(self) -> list[tuple[str, int, Any]]:
        """(device, sequence, value) of every reading in the leaf's stream, in its order."""
        found = await self.documents()
        return [(document["device"], document["sequence"], document["value"]) for document in found]

    async def documents(self) -> list[dict[str, Any]]:
        """Every reading in the leaf's stream, in its order."""
        found: list[dict[str, Any]] = []
        number = 0
        while True:
            body = {"seq": number + 1, "next_by_subj": f"up.{SITE}.>"}
            raw = await self.client.request("$JS.API.DIRECT.GET.UP", json.dumps(body).encode(), timeout=5)
            headers = raw.headers or {}
            if "Nats-Sequence" not in headers:
                return found
            number = int(headers["Nats-Sequence"])
            if raw.data:
                found.append(json.loads(raw.data))
