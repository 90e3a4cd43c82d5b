"""A real tshark with the dissector of this project. PDML is what it prints for programs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DISSECTOR = Path(__file__).parents[2] / "tools" / "wireshark" / "petiole.lua"
TSHARK = shutil.which("tshark")


@dataclass
class Shown:
    """One frame as tshark shows it: (name, what is shown, bytes) of each field in order, records as their own lists."""

    fields: list[tuple[str, str, bytes]] = field(default_factory=list)
    records: list[tuple[int, list[tuple[str, str, bytes]]]] = field(default_factory=list)
    text: str = ""
    interface: str = ""
    time: str = ""

    def all(self, name: str) -> list[str]:
        return [shown for each, shown, _ in self.fields if each == name]

    def one(self, name: str) -> str:
        [shown] = self.all(name)
        return shown

    def bytes_of(self, name: str) -> bytes:
        [data] = [data for each, _, data in self.fields if each == name]
        return data


def _walk(element: ET.Element) -> Iterator[tuple[str, str, bytes]]:
    for each in element.iter("field"):
        value = each.get("value", "")
        yield each.get("name", ""), each.get("show", ""), bytes.fromhex(value) if len(value) % 2 == 0 else b""


def tshark(data: bytes, *options: str) -> list[Shown]:
    """Every frame of a capture, dissected. Fails if Lua failed, wherever it says so."""
    assert TSHARK is not None
    with tempfile.NamedTemporaryFile(suffix=".pcapng") as file:
        file.write(data)
        file.flush()
        command = [TSHARK, "-X", f"lua_script:{DISSECTOR}", *options, "-r", file.name, "-T", "pdml"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    problems = [line for line in done.stderr.decode().splitlines() if not line.startswith("Running as user")]
    assert (done.returncode, problems) == (0, [])
    assert b"_ws.lua.error" not in done.stdout
    assert b"Lua Error" not in done.stdout
    found = []
    for packet in ET.fromstring(done.stdout).iter("packet"):
        shown = Shown(text=ET.tostring(packet, encoding="unicode"))
        for proto in packet.iter("proto"):
            if proto.get("name") == "frame":
                names = {name: text for name, text, _ in _walk(proto)}
                shown.interface = names.get("frame.interface_name", "")
                shown.time = names.get("frame.time_epoch", "")
            if proto.get("name") == "petiole":
                shown.fields += list(_walk(proto))
                for record in proto.iter("field"):
                    if record.get("name") == "petiole.record":
                        parts = list(_walk(record))[1:]
                        shown.records.append((int(record.get("value", "0"), 16), parts))
        found.append(shown)
    return found
