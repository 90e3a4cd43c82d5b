"""A command of a device: request and reply."""

from __future__ import annotations

from petiole_tools.arguments import command_arguments, seconds
from petiole_tools.client import checked_name, connected
from petiole_tools.failure import CliError
from petiole_tools.options import Options
from petiole_tools.output import say_json

# The gateway gives up first and says why; only then does this end wait no longer.
GRACE_S = 2.0
TIMEOUT_HEADER = "Petiole-Timeout"  # seconds


async def request(options: Options, device: str, command: str, words: list[str], patience: str) -> None:
    """Run `command` of `device` and print the result."""
    checked_name("device name", device)
    checked_name("command name", command)
    arguments = command_arguments(words)
    timeout_s = seconds("--timeout", patience)
    async with connected(options) as client:
        site = checked_name("site", client.site)
        nobody = CliError(
            f"no gateway of site {site!r} answers at {client.target.url}",
            "`petiole gateway run` starts one; another site is named with --site",
        )
        headers = {TIMEOUT_HEADER: f"{timeout_s:g}"}
        result = await client.ask(f"dev.{site}.{device}.{command}", arguments, timeout_s + GRACE_S, nobody, headers)
    say_json(result)
