"""The port of the REPL carries frames, the log, and mpremote."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from petiole_tools.sim.nodes import SimNode

from .conftest import Start
from .peer import Peer, SerialPort

MPREMOTE = Path(sys.executable).parent / "mpremote"


async def mpremote(node: SimNode, *arguments: str) -> str:
    """Run the real tool on the node's port; return what it prints."""
    if not MPREMOTE.exists():
        pytest.skip("no mpremote: pip install mpremote")
    process = await asyncio.create_subprocess_exec(
        MPREMOTE,
        "connect",
        str(node.path.resolve()),
        "resume",  # a unix process cannot restart itself without ending
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
async def test_what_a_console_node_logs_arrives_as_lines_between_its_frames(
    start: Start, peer: Peer, runtime: str
) -> None:
    await start("console", runtime=runtime, options={"period_s": 0.02})
    await peer.joined()
    for on in (True, False):
        assert await peer.command("led", [on]) == (0, on)
    await peer.line("led on")
    await peer.line("led off")
    assert peer.logs == []  # said once, not twice
    assert not any("~" in line for line in peer.lines)


async def test_log_lines_that_look_like_frames_stay_lines(start: Start, peer: Peer, tmp_path: Path) -> None:
    app = tmp_path / "tilde.py"
    app.write_text(
        "from petiole_node import Node\n"
        "node = Node('petiole.json')\n"
        "@node.command('say', 'text:s')\n"
        "def say(text):\n"
        "    node.log(text)\n"
        "    print(text, end='')\n"
        "node.run()\n"
    )
    await start("console", app=app)
    await peer.joined()
    assert await peer.command("say", ["~hello"]) == (0, None)
    assert await peer.command("say", ["one\n~two"]) == (0, None)
    await peer.line(" ~hello")
    await peer.line(" ~two")


async def test_mpremote_interrupts_a_running_node_and_the_node_runs_again(start: Start, peer: Peer) -> None:
    node = await start("console", options={"mode": "verify", "concurrency": 4})
    await peer.joined()
    await peer.more_readings(20)
    peer.close()  # a serial port has one reader at a time
    out = await mpremote(node, "exec", "import os; print('boards', sorted(os.listdir())[0], 6 * 7)")
    assert "boards accepted.txt 42" in out
    out = await mpremote(node, "fs", "ls")
    assert "petiole.json" in out
    assert node.resets_total == 0
    await node.restart()
    peer.serial(node.path, "console")
    await peer.joined(2)
    await peer.more_readings(20)
    values = peer.values("counter")
    assert values == sorted(set(values))


async def test_one_ctrl_c_is_enough(start: Start, peer: Peer) -> None:
    await start("console", options={"period_s": 60})
    await peer.joined()
    link = peer.links[0]
    assert isinstance(link, SerialPort)
    link.write(b"\x03")
    await peer.line("KeyboardInterrupt", timeout_s=5)
