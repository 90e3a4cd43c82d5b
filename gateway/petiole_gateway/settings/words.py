"""What each setting is for, in the words of the annotated example and of the list of all settings."""

from __future__ import annotations

from petiole import wire

# section → what it is
SECTIONS = {
    "": "The gateway",
    "serial": "Serial ports. One [[serial]] with two brackets for each; none by default",
    "udp": "Nodes on Wi-Fi and Ethernet",
    "nats": "The leaf server, and the way to the hub",
    "policy": "What devices may do",
    "log": "What the gateway writes to standard error",
    "metrics": "Metrics for Prometheus and health for probes, over HTTP without encryption or password",
}

# (section, key) → what it does, an example where the default shows none
WORDS: dict[tuple[str, str], tuple[str, str | None]] = {
    ("", "site"): ("Name of the site in subjects: up.<site>.<device>.<channel>. One site has one leaf server.", None),
    ("", "state_dir"): (
        "Where the gateway keeps devices, keys and readings. Default: $STATE_DIRECTORY of systemd, else "
        "~/.local/state/petiole.",
        '"/var/lib/petiole"',
    ),
    ("serial", "port"): (
        "usb:<serial number of the board>, a path, or a pattern such as /dev/ttyACM*.",
        '"usb:E6614103E72B502C"',
    ),
    ("serial", "baud"): ("Speed; of no meaning on USB.", None),
    ("serial", "framing"): ('"cobs", or "console" where the port also is the REPL and the log of the board.', None),
    ("udp", "enabled"): ("Whether nodes may come over UDP.", None),
    ("udp", "listen"): ("Address and port; port 0 takes any free one.", None),
    ("nats", "url"): (
        "A server that runs already; without, the gateway starts a leaf server of its own.",
        '"nats://127.0.0.1:4222"',
    ),
    ("nats", "credentials"): ("Credentials file for the server at url.", '"gateway.creds"'),
    ("nats", "user"): ("User at the server at url, instead of credentials.", '"gateway"'),
    ("nats", "password"): ("Its password.", '"secret"'),
    ("nats", "store_dir"): (
        "JetStream's folder of the server at url, if it is on this machine: it is flushed before a reading is "
        "acknowledged.",
        '"/var/lib/nats/jetstream"',
    ),
    ("nats", "linked_to_hub"): (
        "Whether the server at url has a link to a hub. Without one readings are kept until they are old, not until "
        "the hub has them.",
        None,
    ),
    ("nats", "hub"): ("Leaf addresses of the hub's servers. Without, the site is complete in itself.", None),
    ("nats", "hub_credentials"): (
        "Credentials of this site at the hub, made by `petiole hub site`. A relative path counts from this file's "
        "folder, or from credentials/ in it.",
        '"cabin.creds"',
    ),
    ("nats", "hub_timeout_s"): ("A link to the hub that is silent for so many seconds is opened anew.", None),
    ("nats", "ignore_discovered_servers"): (
        "Use the addresses in hub only, never those that the hub tells: behind a tunnel or a proxy.",
        None,
    ),
    ("nats", "port"): ("Port of the gateway's own leaf server on 127.0.0.1; 0 takes a free one and keeps it.", None),
    ("nats", "binary"): ("The nats-server program; without, the one that was installed with petiole.", '"nats-server"'),
    ("nats", "leaf_unit"): (
        "The leaf server is a service of its own, petiole-leaf, with these settings: the gateway waits for it.",
        None,
    ),
    ("nats", "store_max_bytes"): ("Room for readings. When it is used up, the oldest go that the hub has.", None),
    ("nats", "durability"): (
        '"power-loss": a reading is acknowledged when it is on the disk; "crash": when the server has it.',
        None,
    ),
    ("policy", "request_allow"): (
        "Subjects that devices may send requests to, with NATS wildcards. System subjects and petiole's own never are.",
        None,
    ),
    ("log", "level"): ("The least that is written.", None),
    ("log", "format"): (
        '"auto": text on a terminal, fields where systemd has connected the journal, else JSON.',
        None,
    ),
    ("metrics", "enabled"): ("Whether /metrics, /healthz and /readyz are served.", None),
    ("metrics", "listen"): ("Address and port.", None),
    ("metrics", "per_device"): ("Some metrics of each device, too, of the first 500.", None),
}

EXAMPLES = {
    ("nats", "hub"): '["nats-leaf://hub.example.com:7422"]',
    ("udp", "listen"): f'"0.0.0.0:{wire.UDP_PORT}"',
}
