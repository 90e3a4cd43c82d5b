"""The gateway's side of a flash: is the name free, may the node join, has it."""

from __future__ import annotations

import asyncio
from typing import Any

from petiole_tools.client import Client, connect
from petiole_tools.failure import CliError, ServiceError
from petiole_tools.flash.errors import GatewayAway, NameTaken, NotJoined
from petiole_tools.flash.identity import Identity
from petiole_tools.options import Options

_LOOK_AGAIN_S = 0.3


async def reach(options: Options, otherwise: str) -> Client:
    """Connected to a site whose gateway answers. Raises GatewayAway, `otherwise` being what helps beside a gateway."""
    try:
        client = await connect(options.target())
    except CliError as error:
        raise GatewayAway(error.problem, f"{error.hint}; {otherwise}") from error
    try:
        await client.gateway("device.list", {"after": "", "limit": 1})
    except CliError as error:
        await client.connection.close()
        hint = error.hint.partition("; --timeout")[0]  # here that option is the time for the join
        raise GatewayAway(error.problem, f"{hint}; {otherwise}") from error
    return client


async def look_up(client: Client, name: str) -> dict[str, Any] | None:
    """What the gateway knows of a device."""
    try:
        found: dict[str, Any] = await client.gateway("device.show", {"name": name})
    except ServiceError as error:
        if error.code == 404:
            return None
        raise
    return found


async def check_free(client: Client, identity: Identity, replaces: bool) -> dict[str, Any] | None:
    """The device as it is known now. Raises NameTaken if that is another board's name."""
    known = await look_up(client, identity.name)
    if known is not None and not identity.is_known and not replaces:
        raise NameTaken(
            f"the site has a device {identity.name} already",
            "choose another --name; --replace gives this board its name, and that one may join no more",
        )
    if known is not None and not _has(known, identity) and not replaces:
        raise NameTaken(
            f"the board is {identity.name}, but the site's {identity.name} has another key",
            "--replace tells the gateway the key of this board; what has the other key may join no more",
        )
    return known


def _has(known: dict[str, Any], identity: Identity) -> bool:
    """Whether what the gateway knows by this name is this board."""
    return identity.is_known and known["id"] == identity.device_id


async def register(client: Client, identity: Identity, known: dict[str, Any] | None, replaces: bool) -> str:
    """Let the node join; what was done, in a word. Raises CliError."""
    if known is not None and _has(known, identity) and not replaces:
        return "is registered already"
    if known is not None:
        await client.gateway("device.remove", {"name": identity.name})
    try:
        await client.gateway("device.add", {"name": identity.name, "key": identity.key})
    except ServiceError as error:
        if error.code == 409:
            raise NameTaken(f"the site has a device {identity.name} already", "somebody added it just now") from error
        raise
    return "replaced" if known is not None else "registered"


async def wait_for_join(
    client: Client, identity: Identity, known: dict[str, Any] | None, timeout_s: float
) -> dict[str, Any]:
    """The device after a join that is newer than what was `known`. Raises NotJoined."""
    before = None if known is None or not identity.is_known else known.get("joined_at")
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                found = await look_up(client, identity.name)
                if found is not None and found.get("joined_at") not in (None, before) and found.get("firmware"):
                    return found
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError as error:
        kind = identity.settings["links"][0]["kind"]
        hint = {
            "console": 'the gateway reads its USB port with [[serial]] port = "usb:SERIAL" and framing = "console"',
            "uart": "check the wires (tx to rx) and the gateway's [[serial]] port",
            "udp": "check Wi-Fi name and password, and that the gateway's address is right; `petiole tap` shows joins",
        }[kind]
        raise NotJoined(f"{identity.name} has not joined within {timeout_s:g} s", hint) from error
