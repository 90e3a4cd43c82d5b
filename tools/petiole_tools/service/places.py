"""Where a gateway that is a service has its files, and how its units are called."""

from __future__ import annotations

from pathlib import Path

from petiole_gateway import credentials
from petiole_gateway.credentials import SERVICE_FOLDER, SERVICE_STATE_DIR

UNIT = "petiole-gateway.service"
UNIT_FILE = Path("/etc/systemd/system") / UNIT
LEAF_UNIT = "petiole-leaf.service"
LEAF_UNIT_FILE = UNIT_FILE.with_name(LEAF_UNIT)
PACKAGED_UNIT_FILE = Path("/lib/systemd/system") / UNIT
# After 60-serial.rules, which finds out the serial number, and before 77-mm-*.rules, where ModemManager decides.
UDEV_FILE = Path("/etc/udev/rules.d/70-petiole.rules")
CONFIG_FILE = Path("/etc/petiole/gateway.toml")
CREDENTIALS_DIR = SERVICE_FOLDER
STATE_DIR = SERVICE_STATE_DIR
PRIVATE_STATE_DIR = Path("/var/lib/private/petiole")  # where systemd puts it for a dynamic user
KEY_FILE = CREDENTIALS_DIR / credentials.KEY_FILE
MARK = "# Written by `petiole gateway install`."
