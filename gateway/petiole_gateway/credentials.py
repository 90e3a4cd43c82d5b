"""Secrets that a service manager hands over: copies in `$CREDENTIALS_DIRECTORY`, readable by the service alone.

The unit has `LoadCredential=petiole:<folder>`, which makes of each file NAME of the folder a credential
`petiole_NAME`. So the originals belong to root, and a new one needs a restart and no other unit.
"""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "petiole_"
FOLDER = "credentials"  # beside the settings file


def loaded(name: str) -> Path | None:
    """The copy of the secret file `name`, None if no service manager has loaded one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / f"{PREFIX}{name}"
    return path if path.is_file() else None
