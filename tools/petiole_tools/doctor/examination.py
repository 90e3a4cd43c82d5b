"""`petiole doctor`: everything that is looked at, in the order in which it is shown."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from petiole_gateway.settings.config import Config, ConfigError
from petiole_tools.doctor import disk, machine, reach, serial_ports
from petiole_tools.doctor.diagnosis import ERROR, NOTE, OK, ORDER, WARNING, Diagnosis
from petiole_tools.options import Options
from petiole_tools.output import clean, paint, say, say_json
from petiole_tools.service import places

_COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: "dim", OK: "green"}


def of_service(options: Options) -> Options:
    """The service's settings and data, where there is a service and nothing else was named."""
    if options.config is not None or options.state_dir is not None or not os.access(places.CONFIG_FILE, os.R_OK):
        return options
    options = replace(options, config=places.CONFIG_FILE)
    try:
        names_folder = "state_dir" in options.settings().model_fields_set
    except ConfigError:
        return options  # said when the settings are looked at
    return options if names_folder else replace(options, state_dir=places.STATE_DIR)


async def examine(options: Options) -> list[Diagnosis]:
    """All diagnoses; none of them is an exception."""
    options = of_service(options)
    found = [machine.about(version("petiole"))]
    config: Config | None = None
    try:
        config = options.settings()
    except ConfigError as error:
        found += [
            Diagnosis("settings", ERROR, str(problem), "the gateway cannot start with them", problem.meant)
            for problem in error.problems
        ]
    else:
        named = str(options.config) if options.config else "none; the defaults"
        found.append(Diagnosis("settings", OK, f"settings: {named}; site {config.site}"))
    found += machine.look(config)
    if config is None:
        return found
    seen, status = await reach.gateway(options)
    found += seen
    found += serial_ports.look(config.serial, gateway_pids(status, config))
    found.append(reach.udp(config, is_running=status is not None))
    if config.nats.is_embedded or config.nats.store_dir is not None:
        found += disk.look(config.state_dir, config.nats.store_max_bytes)
    found += reach.secrets(config)
    found += await reach.hub(config)
    return found


def gateway_pids(status: dict[str, Any] | None, config: Config) -> frozenset[int]:
    """Processes that may have the ports: the gateway that answers is the one that has the leaf server as its child."""
    pid = ((status or {}).get("leaf") or {}).get("pid")
    if not isinstance(pid, int):
        return frozenset()
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The name may hold anything, a parenthesis too.
            return frozenset((int(file.read().rpartition(")")[2].split()[1]),))
    except (OSError, ValueError, IndexError):
        return frozenset()


async def show(options: Options) -> int:
    """Print the diagnoses, the worst first; the exit code: 1 if there is an error."""
    found = await examine(options)
    is_ill = any(each.severity == ERROR for each in found)
    if options.as_json:
        say_json({"healthy": not is_ill, "diagnoses": [each.document() for each in found]})
        return int(is_ill)
    for each in sorted(found, key=lambda each: ORDER.index(each.severity)):
        say(f"{paint(each.severity.ljust(7), _COLOURS[each.severity])}  {clean(each.found)}")
        for text in (each.meaning, each.hint and f"→ {each.hint}"):
            if text:
                say(paint(f"         {clean(text)}", "dim"))
    counts = {severity: sum(each.severity == severity for each in found) for severity in (ERROR, WARNING)}
    if not any(counts.values()):
        say(paint("all is well", "green"))
    else:
        say(
            paint(
                ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items()),
                "bold",
            )
        )
    return int(is_ill)
