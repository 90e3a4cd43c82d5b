"""The systemd units of the gateway and of a leaf server that is to be one, for systemd 252 (Debian 12) and newer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .places import CONFIG_FILE, CREDENTIALS_DIR, LEAF_UNIT, MARK

# The longest that a leaf server which is being started again shows nothing new: it is given 45 s to become healthy and
# 10 s to end, and the pause before the next start grows to 15 s. With 20 s for a slow card.
WATCHDOG_S = 90
# Three attempts of the leaf server of 45 s, and up to 120 s to use up sequence numbers after a power cut.
START_S = 300
# 5 s until frames are acknowledged, 5 s for the store, 10 s each for the last flush and the leaf server.
STOP_S = 60
# A leaf server closes its stores in well under a second; twice what the gateway waits for its own.
LEAF_STOP_S = 20
# Folders that the service does not see as they are.
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_HIDDEN = (*_HOMES, Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - not used

_HARDENING = """\
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
"""

_UNIT = """\
{mark}
# Settings of your own: systemctl edit petiole-gateway

[Unit]
Description=petiole gateway between nodes and NATS
After=network.target time-sync.target {leaf}
{wants}# It never gives up: a site in the field has nobody to start it again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} --config {config} gateway run{flag}
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

{hardening}# Whether the clock is right is asked, never set. ProtectClock= would forbid the question.
SystemCallFilter=adjtimex clock_adjtime

[Install]
WantedBy=multi-user.target
"""

# The process is nats-server itself. User and data are the gateway's: so is the store, whoever runs its server.
_LEAF_UNIT = """\
{mark}
# Settings of your own: systemctl edit petiole-leaf

[Unit]
Description=NATS leaf server of the petiole gateway
After=network.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={program} --config {config} gateway leaf
# Also when the gateway has ended it, because it gave no sign or had given up on the hub.
Restart=always
RestartSec=1
TimeoutStopSec={stop_s}
Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

DynamicUser=yes
User=petiole
StateDirectory=petiole
StateDirectoryMode=0700
UMask=0077
LoadCredential=petiole:{credentials}

PrivateDevices=yes
{hardening}
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
    has_leaf_unit: bool = False,
) -> str:
    """Text of the unit. `program` is an absolute path; `visible`: folders that it needs, wherever they are;
    `has_leaf_unit`: it waits for a leaf server that is a service of its own."""
    return _UNIT.format(
        mark=mark,
        program=program,
        config=config,
        credentials=credentials,
        start_s=START_S,
        stop_s=STOP_S,
        watchdog_s=WATCHDOG_S,
        leaf=LEAF_UNIT,
        wants=f"Wants={LEAF_UNIT}\n" if has_leaf_unit else "",
        flag=" --leaf-unit" if has_leaf_unit else "",
        hardening=_hardening(visible),
    )


def leaf_server_unit(
    program: Path,
    *,
    visible: Iterable[Path] = (),
    config: Path = CONFIG_FILE,
    credentials: Path = CREDENTIALS_DIR,
    mark: str = MARK,
) -> str:
    """Text of the unit of a leaf server that is a service of its own."""
    return _LEAF_UNIT.format(
        mark=mark,
        program=program,
        config=config,
        credentials=credentials,
        stop_s=LEAF_STOP_S,
        hardening=_hardening(visible),
    )


def _hardening(visible: Iterable[Path]) -> str:
    hidden = sorted({folder for folder in visible if any(folder.is_relative_to(root) for root in _HIDDEN)})
    is_at_home = any(folder.is_relative_to(home) for folder in hidden for home in _HOMES)
    return _HARDENING.format(
        home="tmpfs" if is_at_home else "yes",
        visible="".join(f"BindReadOnlyPaths={folder}\n" for folder in hidden),
    )
