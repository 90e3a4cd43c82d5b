"""What a node remembers across restarts, in small files that are rewritten in place.

On LittleFS a file that is overwritten has its old or its new contents after a power cut; one that was just made may be
empty. So nothing here trusts what it reads.
"""

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Started

_BOOTS = "boot.cnt"
_CRASH = "crash.txt"
RESET_WOKE = 4
RESET_EXCEPTION = 6


class StateFiles:
    woke = False  # from a deep sleep, with what it had kept; said by `sleeper`
    is_continued = False  # the clock goes on from before that sleep, so it is the same boot
    watchdog_ms = 0  # of the one that runs
    started: "Started | None" = None  # what has started the node, and wants to know that it works
    has_littlefs = True  # an overwritten file has its old or its new contents after a power cut
    flash_deafens_uart = False  # writing a file loses what a UART receives meanwhile

    def __init__(self) -> None:
        self._folder = ""
        self._boots: int | None = None
        self._crash: str | None = None

    def use_folder(self, folder: str) -> None:
        """Where the files are; "" is the current folder."""
        self._folder = folder + "/" if folder and not folder.endswith("/") else folder

    def path(self, name: str) -> str:
        return self._folder + name

    def boot_count(self) -> int:
        """Number of this boot, from 1. A deep sleep over which the clock went on is none."""
        if self._boots is None:
            text = self._read(_BOOTS)
            is_known = text.isdigit()
            self._boots = int(text) if is_known else 0
            if not (is_known and self.is_continued):
                self._boots += 1
                self._write(_BOOTS, str(self._boots))
        return self._boots

    def reset_reason(self) -> int:
        """As in PROTOCOL.md, section 6."""
        if self._last_crash():
            return RESET_EXCEPTION
        return RESET_WOKE if self.woke else self.hardware_reset_reason()

    def hardware_reset_reason(self) -> int:
        return 0

    def confirm(self) -> None:
        """The gateway has answered: this firmware works, and stays."""
        if self.started is not None:
            try:
                self.started.confirm()
            except OSError as error:
                print("confirm: " + str(error))

    def crashed(self, error: BaseException) -> None:
        """Keep what has ended the program; it is told to the gateway after the restart."""
        text = self.describe(error).strip()
        print(text)
        self._write(_CRASH, text)

    def take_crash(self) -> str:
        """What ended the program before this one, once; "" if nothing did."""
        text = self._last_crash()
        if text:
            self._write(_CRASH, "")
        self._crash = ""
        return text

    def describe(self, error: BaseException) -> str:
        raise NotImplementedError()

    def _last_crash(self) -> str:
        if self._crash is None:
            self._crash = self._read(_CRASH)
        return self._crash

    def _read(self, name: str) -> str:
        try:
            with open(self._folder + name) as file:
                return file.read()
        except (OSError, ValueError):
            return ""

    def _write(self, name: str, text: str) -> None:
        try:
            with open(self._folder + name, "w") as file:
                file.write(text)
        except OSError as error:
            print(name + ": " + str(error))
