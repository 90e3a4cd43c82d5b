"""An example: edit it, then put it on the board. Its settings are in `petiole.json`."""

from petiole_node import Node

node = Node("petiole.json")
uptime = node.channel("uptime", unit="s", period_s=60, type="i")


@node.command("add", "a:f b:f")
def add(a: float, b: float) -> float:
    return a + b


@node.every(60)
async def measure() -> None:
    await uptime.publish(node.port.now() // 1000)


node.run()
