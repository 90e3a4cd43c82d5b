"""Sleeps: a wake is a start of the chip, and brings a reading `[1, number, ""]`."""

from petiole_node import Node

PERIOD_S = 10

node = Node("petiole.json", firmware="sleep-1")
wakes = node.channel("wakes", type="a")


def next_number() -> int:
    try:
        with open("wakes.txt") as file:
            number = int(file.read()) + 1
    except OSError:
        number = 1
    with open("wakes.txt", "w") as file:
        file.write(str(number))
    return number


async def wake() -> None:
    await wakes.publish([1, next_number(), ""])


node.run(wake, period_s=PERIOD_S)
