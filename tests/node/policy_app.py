"""A node that takes more readings than it has room for: sim.json has "rounds" of one reading in each channel.

A channel's name is its policy. `refused.txt` says how many readings of "drop-newest" were refused; it is there when all
are taken. The last reading of all is that of the channel "end".
"""

import json
import os

from petiole_node import Node

with open("sim.json") as file:
    rounds = json.load(file)["rounds"]
node = Node("petiole.json")
names = ("drop-oldest", "drop-newest", "keep-last", "thin-out")
channels = [node.channel(name, type="a", when_full=name) for name in names]
end = node.channel("end", type="i")


def note(name, text):
    with open(name + ".new", "w") as stream:
        stream.write(text)
    os.rename(name + ".new", name)


async def main():
    pendings = []
    for number in range(1, rounds + 1):
        for channel in channels:
            pending = await channel.publish([number, "." * 60], wait=False)
            if channel.name == "drop-newest":
                pendings.append(pending)
    refused = 0
    for pending in pendings:
        try:
            await pending.wait()
        except Exception as error:
            refused += "outbox" in str(error)
    note("refused.txt", str(refused))
    await end.publish(rounds)


node.run(main)
