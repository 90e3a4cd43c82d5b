"""What went wrong, as the one `error:` and the one `hint:` line that a person gets.

CliError           a command cannot do what was asked
└── ServiceError   a gateway or a device answered with an error
"""

from __future__ import annotations

import errno

DEBUG_HINT = "run it again with --debug for the traceback"


class CliError(Exception):
    """`problem` and `hint` are one line each; `more` is listed below the problem. `exit_code`: of the command."""

    exit_code = 1

    def __init__(self, problem: str, hint: str, more: list[str] | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.more = more or []


_SERVICE_HINTS = {
    400: "`petiole device show DEVICE` lists commands and their arguments",
    403: "the site's policy does not permit it",
    404: "`petiole device list` shows the devices, `petiole device show DEVICE` its commands",
    408: "the device may be busy or out of reach: try again, or give it longer with --timeout",
    409: "choose another name, or remove the old device: `petiole device remove NAME`",
    413: "send less at once",
    429: "the device has too many open requests: try again in a moment",
    500: "the device's log tells more: `petiole tap DEVICE`",
    503: "`petiole device show DEVICE` tells when it was last seen",
}


class ServiceError(CliError):
    """An answer with `Nats-Service-Error` headers."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})", _SERVICE_HINTS.get(code, DEBUG_HINT))
        self.code = code
        self.text = text


def explain(error: BaseException) -> CliError:
    """Any exception as a problem with a hint. Errors of the gateway's packages bring their own."""
    if isinstance(error, CliError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return explain(error.exceptions[0])
    problems = getattr(error, "problems", None)
    hint = getattr(error, "hint", None)
    if problems:  # of a settings file
        if len(problems) == 1:
            return CliError(_one_line(str(error)), hint or DEBUG_HINT)
        listed = [f"{problem} ({problem.meant})" if problem.meant else str(problem) for problem in problems]
        return CliError(f"{problems[0].file} has {len(problems)} problems", "correct them all", listed)
    if isinstance(hint, str) and hint:
        return CliError(_one_line(str(error)), _one_line(hint))
    if isinstance(error, PermissionError):
        is_port = str(error.filename or "").startswith("/dev/")
        owner = "the group dialout may use serial ports" if is_port else "check who owns it, or name another place"
        return CliError(_os_problem(error), owner)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CliError(
            _os_problem(error), "make room on that disk and run it again; `petiole doctor` and `df -h` show it"
        )
    if isinstance(error, OSError):
        is_place = error.filename is not None
        return CliError(_os_problem(error), "check that path, or name another place" if is_place else DEBUG_HINT)
    return CliError(f"unexpected {type(error).__name__}: {_one_line(str(error))}", DEBUG_HINT)


def _os_problem(error: OSError) -> str:
    what = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{error.filename}: {what}" if error.filename else what


def _one_line(text: str) -> str:
    return " ".join(text.split())
