"""The log of the leaf server, line by line: what a person or another log needs of it."""

from __future__ import annotations

import collections
import re

_TAIL = 30
# What differs in each line that says the same: our log has times of its own and recognises what is repeated.
_VARYING = re.compile(
    r"^\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+ "  # process and time
    r"|\b[a-z]id:\d+ - "  # of a connection
    r"| \(attempt \d+\)"
)
_REFUSED = re.compile(r"Leafnode Error '([^']+)'|TLS leafnode handshake error: (.+)")
_AWAY = "Error trying to connect as leafnode"


class LeafLog:
    """`tail`: the last lines. `refusal`: why the hub refused the link when it was tried last, "" if it did not."""

    def __init__(self) -> None:
        self.tail: collections.deque[str] = collections.deque(maxlen=_TAIL)
        self.refusal = ""

    def take(self, line: str) -> str:
        """The line as it is to be said."""
        text = _VARYING.sub("", line)
        self.tail.append(text)
        if found := _REFUSED.search(text):
            self.refusal = found[1] or found[2]
        elif _AWAY in text:
            self.refusal = ""
        return text
