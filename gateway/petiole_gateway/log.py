"""The log: text for a person at a terminal, fields for the journal, JSON lines for anything else."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .hub.ports import Logger
from .journal import JournalLogger, is_journal
from .repetitions import Repetitions

FORMATS = ("auto", "text", "json", "journal")
# Subjects with the device behind the site.
_OF_DEVICES = frozenset({"up", "live", "dev", "down", "out", "event", "mailbox", "presence"})


def configure(level: str, form: str) -> Logger:
    """Set up logging to standard error; a warning that repeats itself is said now and then.

    `form`: "text", "json", "journal", or "auto": text on a terminal, the journal where systemd has connected us to it,
    else JSON.
    """
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "journal" if is_journal(sys.stderr) else "json"
    processors: list[Processor] = [Repetitions(), structlog.processors.add_log_level, with_device]
    factory: Any = structlog.PrintLoggerFactory(sys.stderr)
    if form == "text":
        processors += [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR")),
        ]
    else:
        processors.append(structlog.processors.format_exc_info)
        if form == "journal":
            journal = JournalLogger(sys.stderr)
            factory = lambda *_: journal  # noqa: E731 - structlog wants a callable
            processors.append(as_fields)
        else:
            processors += [structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logger: Logger = structlog.get_logger()
    return logger


def with_device(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A line about a subject of a device is a line about the device."""
    subject = event.get("subject")
    if isinstance(subject, str) and "device" not in event:
        purpose, _, rest = subject.removeprefix("$KV.").partition(".")
        words = rest.split(".")
        if purpose in _OF_DEVICES and len(words) > 1:
            event["device"] = words[1]
    return event


def as_fields(logger: WrappedLogger, method: str, event: EventDict) -> tuple[tuple[EventDict], dict[str, Any]]:
    """The event as it is: the journal keeps fields."""
    return (event,), {}
