"""How programs of the same user reach the embedded leaf server: two small files in its data directory.

`leaf.json` says where (url, monitor_url, user, site, version); `leaf.credentials.json` holds the generated
passwords. Both have mode 0600.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from .errors import KeyFileError
from .leaf_config import LOCAL_USER, SYSTEM_USER
from .private_file import create_private, read_private, write_private

ACCESS_FILE = "leaf.json"
CREDENTIALS_FILE = "leaf.credentials.json"


@dataclass(frozen=True, slots=True)
class LeafAccess:
    """Everything a client needs to connect."""

    url: str
    monitor_url: str
    site: str
    user: str
    password: str = field(repr=False)


def local_passwords(data_dir: Path) -> dict[str, str]:
    """User name → password, generated on first use."""
    path = data_dir / CREDENTIALS_FILE
    if not path.exists():
        fresh = {user: secrets.token_urlsafe(24) for user in (LOCAL_USER, SYSTEM_USER)}
        create_private(path, json.dumps(fresh).encode())
    return _read(path, (LOCAL_USER, SYSTEM_USER))


def write_access(data_dir: Path, *, url: str, monitor_url: str, site: str) -> None:
    """Publish where the leaf listens."""
    document = {"url": url, "monitor_url": monitor_url, "site": site, "user": LOCAL_USER}
    write_private(data_dir / ACCESS_FILE, json.dumps(document).encode())


def read_access(data_dir: Path) -> LeafAccess:
    """What the last started leaf of this data directory left; KeyFileError if there was none."""
    where = _read(data_dir / ACCESS_FILE, ("url", "monitor_url", "site", "user"))
    password = local_passwords(data_dir)[LOCAL_USER]
    return LeafAccess(where["url"], where["monitor_url"], where["site"], where["user"], password)


def _read(path: Path, fields: tuple[str, ...]) -> dict[str, str]:
    try:
        document = json.loads(read_private(path))
        return {name: str(document[name]) for name in fields}
    except (ValueError, KeyError, TypeError) as error:
        raise KeyFileError(path, "not a complete JSON document") from error
