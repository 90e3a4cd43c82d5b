"""Exercises a board's port on the MicroPython VM: `MICROPYPATH=shims:firmware micropython run_board.py esp32|rp2`."""

# mypy: ignore-errors
# ruff: noqa: PT017
# MicroPython has neither these types nor pytest.

import asyncio
import sys

import machine
import network

from petiole_node import links
from petiole_node import port as ports
from petiole_node.port import board

NAME = sys.argv[1]
UART = {"kind": "uart", "id": 1, "tx": 4, "rx": 5, "baud": 9600, "fd": None}
WIFI = {"kind": "udp", "host": "127.0.0.1", "port": 9, "ssid": "home", "password": "secret"}

port = ports.choose(NAME)
assert ports.choose(NAME) is port


async def serial():
    link = links.create(UART, port)
    await link.open()
    uart = machine.made[-1]
    assert (uart.id, uart.baud, uart.options["rxbuf"]) == (1, 9600, 1024)
    assert (uart.options["tx"].number, uart.options["rx"].number) == (4, 5)
    frame = bytes(range(1, 201))
    await link.send(frame)
    # After silence a delimiter stands in front; what the board's buffer could not take at once followed.
    assert uart.sent[0] == 0
    assert uart.sent[-1] == 0
    assert len(uart.sent) == 1 + 201 + 1
    link.close()
    assert not uart.is_open


async def wifi():
    board._JOIN_S = board._PAUSE_S = 0
    for _ in range(4):
        try:
            await port.connect_network(WIFI)
            raise AssertionError("joined")
        except OSError as error:
            assert "home" in str(error), error
            assert "secret" not in str(error)
    assert not port.is_networked(WIFI)
    # Every second failure switches the radio off and on.
    assert network.calls.count("off") == 2
    network.access_point = "home"
    board._JOIN_S = 1
    await port.connect_network(WIFI)
    assert port.is_networked(WIFI)
    connects = network.calls.count("connect")
    await port.connect_network(WIFI)
    assert network.calls.count("connect") == connects
    network.joined = network.access_point = ""
    assert not port.is_networked(WIFI)
    board._JOIN_S = 0
    try:
        for _ in range(board._RESET_AFTER):
            try:
                await port.connect_network(WIFI)
            except OSError:
                continue
        raise AssertionError("no reset")
    except machine.Reset:
        return


def watchdog():
    port.feed_watchdog()
    assert machine.feeds == 0
    port.start_watchdog(60)
    port.start_watchdog(60)
    dogs = [made for made in machine.made if isinstance(made, machine.WDT)]
    assert [dog.timeout for dog in dogs] == [8300 if NAME == "rp2" else 60000]
    port.feed_watchdog()
    assert machine.feeds == 1
    port.interrupted()
    machine.made[-1].callback(None)
    assert machine.feeds == 2


def resets():
    expected = {machine.PWRON_RESET: 1, machine.WDT_RESET: 3}
    if NAME == "esp32":
        expected.update({machine.SOFT_RESET: 2, machine.DEEPSLEEP_RESET: 4, machine.HARD_RESET: 2})
    for cause, reason in expected.items():
        machine.cause = cause
        assert port.reset_reason() == reason
    machine.cause = 99
    assert port.reset_reason() == 0


asyncio.run(serial())
asyncio.run(wifi())
watchdog()
resets()
print("passed")
