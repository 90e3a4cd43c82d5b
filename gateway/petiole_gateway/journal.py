"""The journal of systemd: each line with its fields, so that `journalctl PETIOLE_DEVICE=kitchen` finds them.

The protocol is that of systemd's "Native Journal Protocol": a datagram of `NAME=value` lines; a value with a line feed
has its length, 8 bytes little-endian, in front of it instead.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

SOCKET = Path("/run/systemd/journal/socket")
# A datagram holds 200 kB by default; a line of ours has some hundred bytes, of a traceback some thousand.
MAX_VALUE = 16 * 1024
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


def is_journal(stream: TextIO) -> bool:
    """Whether systemd has connected this stream to the journal ($JOURNAL_STREAM names its device and inode)."""
    given = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return given == f"{status.st_dev}:{status.st_ino}"


class JournalLogger:
    """What structlog writes with. Should the journal not take a line, it goes to `stream` as JSON."""

    def __init__(self, stream: TextIO, path: Path = SOCKET) -> None:
        self._stream = stream
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def msg(self, event: Mapping[str, Any]) -> None:
        """Write one line."""
        try:
            self._socket.sendto(datagram(event), self._path)
        except OSError:  # restarting, or full: then the stream says it, which systemd reads, too
            print(json.dumps(event, default=repr), file=self._stream, flush=True)

    debug = info = warning = error = critical = msg


def datagram(event: Mapping[str, Any]) -> bytes:
    """An event with its level as the journal takes it."""
    fields = {name: value for name, value in event.items() if name not in ("event", "level")}
    shown = " ".join(f"{name}={_text(value)}" for name, value in fields.items() if name != "exception")
    lines = {
        "MESSAGE": f"{event.get('event', '')} {shown}".rstrip(),
        "PRIORITY": str(_PRIORITIES.get(str(event.get("level")), 6)),
        "SYSLOG_IDENTIFIER": "petiole",
        "PETIOLE_EVENT": str(event.get("event", "")),
        **{f"PETIOLE_{name.upper()}": _text(value) for name, value in fields.items() if value is not None},
    }
    return b"".join(_line(name, value) for name, value in lines.items())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def _line(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")[:MAX_VALUE]
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
