"""The gateway as the work of this process."""

from __future__ import annotations

from petiole_gateway.app import Gateway
from petiole_gateway.service import run_until_stopped
from petiole_gateway.settings.config import Config


async def run_gateway(config: Config) -> None:
    """Run until SIGINT or SIGTERM, then stop in order."""
    await run_until_stopped(Gateway(config))
