"""`petiole`, with a leaf server that notices a dead link within seconds and stays behind the proxy.

By default the leaf would learn the addresses of the hub's other servers and go round the proxy that cuts its link.
"""

from __future__ import annotations

import functools
import sys

from petiole_gateway import app
from petiole_gateway.nats.leaf_server import LeafServer
from petiole_tools.cli import main

LINK = {"ping_interval_s": 1.0, "ping_max": 2, "reconnect_s": 0.5, "ignore_discovered_servers": True}

if __name__ == "__main__":
    app.LeafServer = functools.partial(LeafServer, settings=LINK)  # type: ignore[misc,assignment]
    sys.exit(main())
