"""Nodes of the real firmware on models of chips that live: deep sleep, resets and power cuts as boards have them."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from petiole_tools.sim.nodes import NodeSpec, SimNode

from .board import HERE, ROOT, Board

_BOOT_MS = 100
_LOOK_S = 0.05


class ChipNode(SimNode):
    """`ends`: how its lives have ended: "deepsleep", "reset" (of an RP2: a deep sleep, too), "watchdog", "power".

    `between(board)`: called before each life but the first. `cut`: the flash operation in which power is lost.
    """

    def __init__(self, chip: str, spec: NodeSpec, folder: Path, release: int = 29) -> None:
        super().__init__(spec, folder)
        folder.mkdir(parents=True)
        self.board = Board(chip, folder, release)
        self.board.state.update(is_live=True, operations=0, cut=-1, due_ms=0, ended_at=0, end_ms=0)
        self.ends: list[str] = []
        self.between: Callable[[Board], None] | None = None
        self._verdict = ""

    def _install(self) -> None:
        super()._install()
        for package in ("petiole", "petiole_node"):  # the source: it has the ports of all boards
            shutil.rmtree(self.folder / package, ignore_errors=True)
            shutil.copytree(
                ROOT / "firmware" / package,
                self.folder / package,
                ignore=shutil.ignore_patterns("__pycache__", "*.pyi"),
            )
        shutil.copy(HERE / "chips" / "start.py", self.folder / "start.py")

    def _write_settings(self, link: dict[str, Any]) -> None:
        if link["kind"] == "uart":
            self.board.state["uart_fd"] = link["fd"]
            link = {"kind": "uart", "id": 1, "tx": 4, "rx": 5}
        else:
            link = {**link, "ssid": "home", "password": "secret"}
        super()._write_settings(link)
        (self.folder / "fed").unlink(missing_ok=True)
        self.board.power_on()

    def _command(self) -> list[str]:
        return [self.board.binary, "-X", "heapsize=4M", "start.py", str(HERE / "chips")]

    async def kill(self) -> None:
        await super().kill()
        self.board.cut_power()

    def strike(self, end: str) -> None:
        """Reset the board now: by its watchdog, or by loss of power."""
        if self.pid is not None:
            self._verdict = end
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _watch(self) -> None:
        process = self._process
        assert process is not None
        dog = asyncio.create_task(self._guard())
        try:
            code = await process.wait()
        finally:
            dog.cancel()
        board = self.board
        board.look()
        if self._verdict and not board.end:
            board.end = self._verdict
        elif code != -signal.SIGKILL:
            board.end = "reset"
        self._verdict = ""
        self.ends.append(board.end)
        if board.end == "deepsleep":
            self.is_asleep = True
            await asyncio.sleep(board.state["end_ms"] / 1000)
            self.is_asleep = False
        elif board.end == "power":
            board.state["cut"] = -1
        is_asleep = board.end == "deepsleep"
        # When the board begins to start; after the others nobody asks how long it was away.
        began_at = board.state["ended_at"] + board.state["end_ms"] * is_asleep
        is_known = board.state["ended_at"] and board.end in ("deepsleep", "reset")
        board.state.update(due_ms=began_at if is_known else 0, ended_at=0)
        board.follow()
        if self.between is not None:
            self.between(board)
        await self._end_process()
        await self._spawn()

    async def _guard(self) -> None:
        """The watchdog."""
        path = self.folder / "fed"
        while True:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(FileNotFoundError, ValueError):
                if time.time() - path.stat().st_mtime > int(path.read_text()) / 1000:
                    self.strike("watchdog")
