"""The systemd unit of the gateway, for systemd 252 (Debian 12, Raspberry Pi OS) and newer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .places import CONFIG_FILE, CREDENTIALS_DIR, MARK

# The longest that a leaf server which is being started again shows nothing new: it is given 45 s to become healthy and
# 10 s to end, and the pause before the next start grows to 15 s. With 20 s for a slow card.
WATCHDOG_S = 90
# Three attempts of the leaf server of 45 s, and up to 120 s to use up sequence numbers after a power cut.
START_S = 300
# 5 s until frames are acknowledged, 5 s for the store, 10 s each for the last flush and the leaf server.
STOP_S = 60
# Folders that the service does not see as they are.
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_HIDDEN = (*_HOMES, Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - not used

_UNIT = """\
{mark}
# Settings of your own: systemctl edit petiole-gateway

[Unit]
Description=petiole gateway between nodes and NATS
After=network.target time-sync.target
# It never gives up: a site in the field has nobody to start it again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} --config {config} gateway run
# Also when somebody else has ended it; `systemctl stop` is no such end.
Restart=always
RestartSec=5
TimeoutStartSec={start_s}
TimeoutStopSec={stop_s}
# Fed while the event loop, the leaf server, the store and the links get on, and not by a timer.
WatchdogSec={watchdog_s}
# SIGTERM goes to the gateway alone: it drains into its leaf server and ends that itself.
KillMode=mixed
# What a hung gateway was doing is in the journal.
Environment=PYTHONFAULTHANDLER=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

DynamicUser=yes
User=petiole
SupplementaryGroups=dialout
StateDirectory=petiole
StateDirectoryMode=0700
UMask=0077
# Key of the registry, credentials of the hub: owned by root, handed over as copies.
LoadCredential=petiole:{credentials}

# Serial ports and nothing else.
DevicePolicy=closed
DeviceAllow=char-ttyUSB rw
DeviceAllow=char-ttyACM rw
DeviceAllow=char-ttyAMA rw
DeviceAllow=char-ttyS rw

CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateMounts=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectHome={home}
{visible}ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# Whether the clock is right is asked, never set. ProtectClock= would forbid the question.
SystemCallFilter=adjtimex clock_adjtime

[Install]
WantedBy=multi-user.target
"""


def gateway_unit(
    program: Path,
    *,
    visible: Iterable[Path] = (),
    config: Path = CONFIG_FILE,
    credentials: Path = CREDENTIALS_DIR,
    mark: str = MARK,
) -> str:
    """Text of the unit. `program` is an absolute path; `visible`: folders that it needs, wherever they are."""
    hidden = sorted({folder for folder in visible if any(folder.is_relative_to(root) for root in _HIDDEN)})
    is_at_home = any(folder.is_relative_to(home) for folder in hidden for home in _HOMES)
    return _UNIT.format(
        mark=mark,
        program=program,
        config=config,
        credentials=credentials,
        start_s=START_S,
        stop_s=STOP_S,
        watchdog_s=WATCHDOG_S,
        home="tmpfs" if is_at_home else "yes",
        visible="".join(f"BindReadOnlyPaths={folder}\n" for folder in hidden),
    )
