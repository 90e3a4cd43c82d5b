"""What a device may ask for on NATS."""

from __future__ import annotations

from dataclasses import dataclass, field

# The system's own subjects and petiole's: a device reaches those only through what petiole offers for them.
RESERVED = ("up", "live", "down", "out", "dev", "gw", "mail", "local", "dlv", "in", "event")


@dataclass(frozen=True, slots=True)
class Policy:
    """Subjects (with NATS wildcards) to which devices may send requests; a device's own list replaces the site's."""

    request_allow: list[str] = field(default_factory=lambda: [">"])

    def may_request(self, subject: str, own: list[str] | None) -> bool:
        """Whether a device may send a request to this subject."""
        tokens = subject.split(".")
        if any(not token or any(c in token for c in "*> \t\r\n") for token in tokens) or len(subject) > 200:
            return False
        if tokens[0].startswith(("$", "_")) or tokens[0] in RESERVED:
            return False
        allow = self.request_allow if own is None else own
        return any(matches(pattern, tokens) for pattern in allow)


def matches(pattern: str, tokens: list[str]) -> bool:
    """Whether a subject's tokens fit a NATS pattern with `*` and `>`."""
    parts = pattern.split(".")
    for i, part in enumerate(parts):
        if part == ">":
            return len(tokens) > i
        if i >= len(tokens) or part not in ("*", tokens[i]):
            return False
    return len(parts) == len(tokens)
