"""`petiole config check`: what is wrong in a settings file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from petiole_gateway.settings.config import Config, ConfigError, load
from petiole_tools.failure import CliError
from petiole_tools.options import Options

if TYPE_CHECKING:
    from petiole_gateway.settings.config import Problem


def check(options: Options, file: Path | None) -> None:
    """Print what the settings come to; ConfigError with every problem otherwise."""
    path = file or options.config
    if path is None:
        raise CliError("no settings file is named", "petiole config check FILE")
    try:
        config = load(path)
    except ConfigError as error:
        if options.as_json:
            print(_json(path, error.problems))
        raise
    if options.as_json:
        print(_json(path, ()))
    else:
        print(f"{path}: no problem; {_summary(config)}")


def _json(path: Path, problems: tuple[Problem, ...]) -> str:
    return json.dumps({"file": str(path), "problems": [asdict(problem) for problem in problems]})


def _summary(config: Config) -> str:
    nats = config.nats
    ports = ", ".join(entry.port for entry in config.serial) or "no serial port"
    udp = f"UDP {config.udp.listen}" if config.udp.enabled else "no UDP"
    server = f"server {nats.url}" if nats.url else f"hub {', '.join(nats.hub)}" if nats.hub else "no hub"
    return f"site {config.site}, {ports}, {udp}, {server}, state in {config.state_dir}"
