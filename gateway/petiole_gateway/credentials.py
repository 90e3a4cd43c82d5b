"""Secrets that a service manager hands over: copies in `$CREDENTIALS_DIRECTORY`, readable by the service alone.

The unit has `LoadCredential=petiole:<folder>`, which makes of each file NAME of the folder a credential
`petiole_NAME`. So the originals belong to root, and a new one needs a restart and no other unit.
"""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "petiole_"
FOLDER = "credentials"  # beside the settings file
KEY_FILE = "registry.key"
# Of a service: `petiole gateway install` and the Debian package.
SERVICE_STATE_DIR = Path("/var/lib/petiole")
SERVICE_FOLDER = Path("/etc/petiole") / FOLDER


def loaded(name: str) -> Path | None:
    """The copy of the secret file `name`, None if no service manager has loaded one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / f"{PREFIX}{name}"
    return path if path.is_file() else None


def registry_key(state_dir: Path) -> Path:
    """The key under which devices are stored: handed over to a service, which root finds among the originals; else it
    is with the state."""
    copy = loaded(KEY_FILE)
    if copy is not None:
        return copy
    original = SERVICE_FOLDER / KEY_FILE
    if state_dir == SERVICE_STATE_DIR and os.path.exists(original):  # others may not even look
        return original
    return state_dir / KEY_FILE
