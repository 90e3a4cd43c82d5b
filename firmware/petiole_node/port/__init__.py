"""Ports: all that differs from one runtime or board to the next. Each module has a class `Port`."""

import sys

from petiole.errors import LocalError

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Port

_chosen: "dict[str, Port]" = {}
_MODULES = {"esp32": "esp32", "rp2": "rp2", "linux": "unix", "darwin": "unix"}


def choose(name: str = "") -> "Port":
    """The port of this runtime, or the one named; the same object each time. Raises LocalError where there is none."""
    if not name:
        runtime = sys.implementation.name
        name = _MODULES.get(sys.platform, sys.platform) if runtime == "micropython" else runtime
    if name in _chosen:
        return _chosen[name]
    module = "petiole_node.port." + name
    try:
        __import__(module)
    except ImportError as error:
        raise LocalError("port", "none for " + name + ": " + str(error))
    _chosen[name] = sys.modules[module].Port()
    return _chosen[name]
