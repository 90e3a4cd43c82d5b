"""Every number on the wire. PROTOCOL.md quotes this file; a test holds the two together."""

VERSION = 1

# Frames (PROTOCOL.md, section 3)
MAX_FRAME = 250  # ESP-NOW carries 250 bytes, so a bridge never has to cut a frame
UDP_PORT = 6363
TAG_LENGTH = 8
JOIN_TAG_LENGTH = 4
TYPE_MASK = 0xE0
DATA = 0x20
ACK = 0x40
JOIN_REQUEST = 0x60
JOIN_ACCEPT = 0x80
REJECT = 0xA0
ADDRESSED = 0x10  # DATA, ACK, REJECT
LONG_COUNTER = 0x08  # DATA
FULL_SEQUENCE = 0x10  # JOIN_REQUEST, JOIN_ACCEPT
DOUBTFUL_CLOCK = 0x08  # JOIN_ACCEPT
MAX_ADDRESS = 32767

REJECT_SESSION = 0
REJECT_JOIN = 1
REJECT_VERSION = 2
REJECT_LATER = 3
ECHO_LENGTH = 4
ECHO_MEMORY = 8  # frames whose last bytes a node remembers

# Counters (section 4)
REPLAY_WINDOW = 30  # one small int on a 32-bit MicroPython
COUNTER_LONG_AFTER = 64  # half of what one byte can reconstruct
COUNTER_LIMIT = 2147483648

# Keys (section 5)
KEY_LENGTH = 16
DEVICE_ID_LENGTH = 3
JOIN_RANDOM_LENGTH = 4
ACCEPT_NONCE_LENGTH = 7  # time and one random byte
NODE_ID = b"\x00"
GATEWAY_ID = b"\x01"
JOIN_SALT = b"petiole 1 join"
SESSION_SALT = b"petiole 1 session"
DEVICE_ID_LABEL = b"petiole device id"
MANIFEST_HASH_LENGTH = 3

# Records (section 7)
READING = 0x80
ACKS = 0x40
FRAGMENT = 0x41
TIME = 0x42
TIME_REQUEST = 0x43
SLEEP = 0x44
BUSY = 0x45
FLOOR = 0x46
SEQUENCE = 0x47
COUNTER_FLOOR = 0x48
PING = 0x49
MANIFEST_REQUEST = 0x4A
PENDING = 0x4B
AWAKE = 0x4C
MESSAGE_TAKEN = 0x4D
REQUEST = 0x01
REPLY = 0x02
MANIFEST = 0x03
LOG = 0x04
MAIL = 0x09
MAIL_RESULT = 0x0A
MAIL_RETURN = 0x0B
POLICY = 0x10

# Readings (section 9)
TAKEN_NOW = 0
TAKEN_AGE = 1
TAKEN_AT = 2
TAKEN_AFTER = 3  # after the reading before it in the same frame
MAX_VALUE = 1024
MAX_SEQUENCES_AHEAD = 127  # what one byte can tell from its reference

# Reliability (section 8)
WINDOW_UPLINK = 8
WINDOW_DOWNLINK = 4  # the 1 KiB receive buffer of a small UART holds four frames
TIMEOUT_INITIAL_MS = 1000  # RFC 6298, section 2.1
TIMEOUT_MIN_MS = 250  # a commit and a slow wake of the gateway's process
TIMEOUT_MAX_MS = 10000  # a cable that is plugged in again is noticed within this
COMMIT_DELAY_MS = 100  # the gateway makes readings durable together this often
ACK_DELAY_MS = 20  # a handler that is quick answers within this
SILENT_TIMEOUTS = 4
KEEPALIVE_MS = 30000  # UDP mappings of home routers live 30 s and more

# Requests (section 10)
MAX_OPEN_REQUESTS = 8
REMEMBERED_REQUESTS = 16
OK = 0
BAD_ARGUMENTS = 400
NOT_PERMITTED = 403
NOT_FOUND = 404
TIMED_OUT = 408
TOO_LARGE = 413
TOO_MANY = 429
HANDLER_FAILED = 500
NOT_NOW = 503

# Fragments (section 11)
FRAGMENT_SIZE = 224
MAX_MESSAGE = 4096
MAX_REASSEMBLIES = 2  # of a receiver, and open messages of a sender
REASSEMBLY_MS = 30000
REMEMBERED_MESSAGES = 4
MESSAGE_PROBES = 2  # before a whole message is sent again

# Join (section 6)
JOIN_RETRY_MS = 1000
JOIN_RETRY_MAX_MS = 15000  # a gateway that comes back is found within this
JOIN_TRIES = 3
PROVISIONAL_MS = 60000
MAX_PROVISIONAL = 2
REJOIN_AFTER_REJECT_MS = 5000
REJECTED_WAIT_MS = 1000
REFUSED_RETRY_MS = 10000
REFUSED_RETRY_MAX_MS = 300000

# Manifest (section 13)
MAX_CHANNELS = 64
MAX_COMMANDS = 64
MAX_NAME = 32
MAX_UNIT = 16

# Sleep and mail (section 17)
LISTENING_MS = 10000  # a sleepy node that says nothing for so long has gone back to sleep
MAIL_WAIT_MS = 150  # one commit of readings and its ack: mail travels with it
MAX_AWAKE_S = 3600
MAX_PERIOD_S = 2592000  # 30 days
MAX_SPACING_MS = 3600000
REMEMBERED_ITEMS = 16
REMEMBERED_RESULT = 64  # bytes of a result that was acknowledged already
