"""Settings of a gateway → its leaf server, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable

from .nats.leaf_server import LeafServer
from .settings.config import Config
from .supervision import Supervisor

# Unanswered pings on the leaf's link; one more ends it.
PING_MAX = 2


def leaf_server(
    config: Config,
    *,
    on_log: Callable[[str], None] = lambda line: None,
    on_link: Callable[[bool], None] = lambda up: None,
    on_exit: Callable[[int], None] = lambda code: None,
    supervisor: Supervisor | None = None,
) -> LeafServer:
    """The server that these settings mean, not yet started."""
    nats = config.nats
    return LeafServer(
        config.site,
        config.leaf_dir,
        hub_urls=nats.hub,
        hub_credentials=nats.hub_credentials,
        client_port=nats.port or None,
        binary=nats.binary,
        settings={
            "ping_interval_s": nats.hub_timeout_s / (PING_MAX + 1),
            "ping_max": PING_MAX,
            "ignore_discovered_servers": nats.ignore_discovered_servers,
        },
        on_log=on_log,
        on_link=on_link,
        on_exit=on_exit,
        supervisor=supervisor,
    )
