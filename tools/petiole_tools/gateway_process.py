"""The gateway as the work of this process."""

from __future__ import annotations

from typing import NoReturn

from petiole_gateway.app import Gateway
from petiole_gateway.leaf import leaf_server
from petiole_gateway.service import run_until_stopped
from petiole_gateway.settings.config import Config
from petiole_tools.failure import CliError


async def run_leaf(config: Config) -> NoReturn:
    """Become the leaf server that a gateway with these settings waits for. The errors of `LeafServer.become`."""
    if not config.nats.is_embedded:
        raise CliError(
            f"[nats] url names {config.nats.url}, which is no server of petiole's", "leave url out, or this command"
        )
    await leaf_server(config).become()


async def run_gateway(config: Config) -> None:
    """Run until SIGINT or SIGTERM, then stop in order."""
    await run_until_stopped(Gateway(config))
