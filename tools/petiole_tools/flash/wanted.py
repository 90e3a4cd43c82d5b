"""What the command line of a flash asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

JOIN_S = 60.0  # a board starts in 3 s, waits up to 10 s for Wi-Fi, and joins within a second of hearing somebody


@dataclass(frozen=True)
class Wanted:
    """As the options of `petiole flash` say it."""

    board: str | None = None
    name: str | None = None
    port: str | None = None
    waits: bool = False
    all: bool = False
    is_dry: bool = False
    app: Path | None = None
    links: list[str] = field(default_factory=list)
    wifi: tuple[str, str] | None = None
    image: str | None = None
    sha256: str | None = None
    drive: Path | None = None
    is_offline: bool = False
    replaces: bool = False
    timeout_s: float = JOIN_S
