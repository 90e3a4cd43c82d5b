"""The leaf server beside the gateway: started, watched, restarted and stopped by us."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ..supervision import Supervisor
from .binary import find_nats_server
from .child_process import end_at_once_by_signals, ended_with_parent
from .errors import LeafStartError, PortTakenError, ServerError
from .leaf_access import ACCESS_FILE, local_passwords, write_access
from .leaf_config import LOCAL_USER, SYSTEM_USER, LeafSettings, render_leaf_config
from .leaf_log import LeafLog
from .leaf_pidfile import (
    TERMINATE_TIMEOUT_S,
    DataDirLock,
    end_stale_server,
    forget_server,
    remember_server,
)
from .leaf_watchdog import PATIENCE_S
from .ports import free_ports, is_free
from .private_file import write_private
from .store_watchdog import POLL_S
from .watched_leaf import WatchedLeaf, answers, is_healthy

# A million stored messages are recovered in 2 s on a PC; a Pi with an SD card is assumed twenty times slower.
START_TIMEOUT_S = 45.0
# First restart almost at once: nodes wait for their acks. Then doubled, so that a leaf that cannot run costs one start
# per 15 s. A leaf that ran for a minute has earned the short delay again.
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 15.0
SETTLED_S = 60.0
_POLL_S = 0.02
CONFIG_FILE = "leaf.conf"
_TAKEN = re.compile(r"127\.0\.0\.1:(\d+): bind: address already in use")


class LeafServer(WatchedLeaf):
    """`start` returns when the leaf is healthy; from then on it is kept running until `stop`.

    `on_log(line)` gets every line the server writes, as `LeafLog` has it, `on_link(up)` every change of the link to the
    hub, `on_exit(return_code)` every unexpected end before the restart. None of them may block.
    """

    def __init__(
        self,
        site: str,
        data_dir: Path,
        *,
        hub_urls: Sequence[str] = (),
        hub_credentials: Path | None = None,
        client_port: int | None = None,
        monitor_port: int | None = None,
        binary: Path | None = None,
        settings: dict[str, object] | None = None,
        watchdog_patience_s: float = PATIENCE_S,
        store_poll_s: float = POLL_S,
        on_log: Callable[[str], None] = lambda line: None,
        on_link: Callable[[bool], None] = lambda up: None,
        on_exit: Callable[[int], None] = lambda code: None,
        supervisor: Supervisor | None = None,
    ) -> None:
        super().__init__(
            data_dir,
            hub_urls=hub_urls,
            on_link=on_link,
            watchdog_patience_s=watchdog_patience_s,
            store_poll_s=store_poll_s,
            supervisor=supervisor,
        )
        self.site = site
        self.hub_credentials = hub_credentials
        self._ports = (client_port, monitor_port)
        self._binary = binary
        self._extra = dict(settings or {})
        self._on_log, self._on_exit = on_log, on_exit
        self._lock = DataDirLock(data_dir)
        self._log = LeafLog()
        self._process: asyncio.subprocess.Process | None = None
        self._log_task: asyncio.Task[None] | None = None
        self._expected_end = False

    @property
    def pid(self) -> int | None:
        """Of the running server, None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def hub_refusal(self) -> str:
        """Why the hub does not take the link, in the words of the server's log."""
        return "" if self.link_up else self._log.refusal

    async def start(self) -> None:
        """Start and wait until healthy.

        ConfigError, BinaryNotFoundError, VersionError, DataDirBusyError, PortTakenError, or LeafStartError with the
        last log lines.
        """
        binary = self._binary or find_nats_server().path
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.acquire()
        try:
            await end_stale_server(self.data_dir)
            # Ports from `free_ports` may be taken by others in the moment between; so try again with new ones.
            for attempt in range(3):
                client_port, monitor_port = self._choose_ports(fresh=attempt > 0)
                self._write_config(client_port, monitor_port)
                try:
                    await self._launch(binary, client_port, monitor_port)
                    break
                except PortTakenError as error:
                    if attempt == 2 or error.port in self._ports:
                        raise
        except BaseException:
            await self._end_process()
            self._lock.release()
            raise
        self.store_dir.mkdir(exist_ok=True)
        self._write_access(client_port, monitor_port)
        self._tasks.append(
            self._supervisor.keep(
                "the leaf server", lambda: self._supervise(binary, client_port, monitor_port), is_vital=True
            )
        )
        self._watch(monitor_port)

    async def become(self) -> NoReturn:
        """Replace this process by the server, for a service manager that watches it. The errors of `start`."""
        binary = self._binary or find_nats_server().path
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.acquire()
        self._lock.outlive_exec()
        await end_stale_server(self.data_dir)
        # What follows waits for the disk and not in the event loop, which will not come to hear of a signal.
        await end_at_once_by_signals()
        client_port, monitor_port = self._choose_ports(fresh=False)
        if not (is_free(client_port) and is_free(monitor_port)):
            client_port, monitor_port = self._choose_ports(fresh=True)
        self._write_config(client_port, monitor_port)
        self.store_dir.mkdir(exist_ok=True)
        self._write_access(client_port, monitor_port)
        config = (self.data_dir / CONFIG_FILE).absolute()
        remember_server(self.data_dir, os.getpid(), config)
        os.execv(binary, [str(binary), "-c", str(config)])  # noqa: S606 - no shell is meant

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after 10 s. Harmless when not running."""
        await self._end_tasks()
        await self._end_process()
        self._lock.release()

    async def restart(self) -> None:
        """End the server gracefully; the supervisor starts it again at once."""
        process = self._process
        if process is not None:
            self._expected_end = True
            await _terminate(process)

    async def _restart_to_write(self) -> None:
        self._on_log(f"[ERR] started again: it could not write ({self.write_problem}), and its disk has room")
        await self.restart()

    async def kill(self) -> None:
        """kill -9 the server, as a crash would; the supervisor starts it again. For tests and demonstrations."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def _choose_ports(self, *, fresh: bool) -> tuple[int, int]:
        """Configured ports, else those of the last run so that clients find us again, else free ones."""
        free = free_ports(2)
        last = {} if fresh else self._last_ports()
        client, monitor = self._ports
        return client or last.get("url") or free[0], monitor or last.get("monitor_url") or free[1]

    def _last_ports(self) -> dict[str, int]:
        try:
            document = json.loads((self.data_dir / ACCESS_FILE).read_bytes())
            return {name: int(document[name].rpartition(":")[2]) for name in ("url", "monitor_url")}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _write_config(self, client_port: int, monitor_port: int) -> None:
        passwords = local_passwords(self.data_dir)
        settings = LeafSettings(
            site=self.site,
            data_dir=self.data_dir,
            client_port=client_port,
            monitor_port=monitor_port,
            local_password=passwords[LOCAL_USER],
            system_password=passwords[SYSTEM_USER],
            hub_urls=self.hub_urls,
            hub_credentials=self.hub_credentials,
            **self._extra,  # type: ignore[arg-type]
        )
        write_private(self.data_dir / CONFIG_FILE, render_leaf_config(settings).encode())

    def _write_access(self, client_port: int, monitor_port: int) -> None:
        write_access(
            self.data_dir,
            url=f"nats://127.0.0.1:{client_port}",
            monitor_url=f"http://127.0.0.1:{monitor_port}",
            site=self.site,
        )

    async def _launch(self, binary: Path, client_port: int, monitor_port: int) -> None:
        config = (self.data_dir / CONFIG_FILE).absolute()
        self._log.tail.clear()
        process = await asyncio.create_subprocess_exec(
            str(binary),
            "-c",
            str(config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=ended_with_parent(),
            # Its own group: Ctrl-C on our terminal must not end the store before we have drained into it.
            process_group=0,
        )
        self._process = process
        self._expected_end = False
        # Whoever does not read the log stops the server, which waits for room in the pipe.
        self._log_task = self._supervisor.keep(
            "the leaf server's log", lambda: self._forward_log(process), is_vital=True, may_end=True
        )
        # Waits for the disk, and links are open when the server is started again.
        await asyncio.to_thread(remember_server, self.data_dir, process.pid, config)
        await self._wait_healthy(process, client_port, monitor_port)

    async def _wait_healthy(self, process: asyncio.subprocess.Process, client_port: int, monitor_port: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT_S
        while loop.time() < deadline:
            if process.returncode is not None:
                if self._log_task is not None:
                    await self._log_task
                raise self._why_ended(process.returncode)
            if await answers(monitor_port, client_port) and await is_healthy(monitor_port):
                return
            await asyncio.sleep(_POLL_S)
        raise LeafStartError(f"not healthy after {START_TIMEOUT_S:g} s", list(self._log.tail))

    def _why_ended(self, code: int) -> LeafStartError:
        tail = list(self._log.tail)
        taken = next((found for line in tail if (found := _TAKEN.search(line))), None)
        return PortTakenError(int(taken[1]), tail) if taken else LeafStartError(f"it ended with code {code}", tail)

    async def _forward_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than the reader's 64 KiB; the reader has dropped it
                continue
            if not line:
                return
            self._on_log(self._log.take(line.decode(errors="replace").rstrip()))

    async def _supervise(self, binary: Path, client_port: int, monitor_port: int) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        started_at = loop.time()
        while True:
            process = self._process
            assert process is not None
            code = await process.wait()
            if not self._expected_end:
                self._on_exit(code)
                if loop.time() - started_at > SETTLED_S:
                    backoff_s = FIRST_BACKOFF_S
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            self.restarts_total += 1
            started_at = loop.time()
            try:
                await self._launch(binary, client_port, monitor_port)
            except (ServerError, OSError) as error:
                self._on_log(f"restart failed: {error}")
                if self._process is not None:
                    await _terminate(self._process)

    async def _end_process(self) -> None:
        if self._process is not None:
            await _terminate(self._process)
            self._process = None
            forget_server(self.data_dir)
        if self._log_task is not None:
            await self._log_task
            self._log_task = None


async def _terminate(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        await asyncio.wait_for(process.wait(), TERMINATE_TIMEOUT_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
