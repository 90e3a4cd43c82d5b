"""One thing that was looked at. Values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OK = "ok"
NOTE = "note"  # could not be looked at, or is good to know
WARNING = "warning"
ERROR = "error"
ORDER = (ERROR, WARNING, NOTE, OK)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`code` is for programs. `found` is what was seen; of what is not well, `meaning` says what comes of it and
    `hint` what to do."""

    code: str
    severity: str
    found: str
    meaning: str = ""
    hint: str = ""

    def document(self) -> dict[str, Any]:
        return asdict(self)
