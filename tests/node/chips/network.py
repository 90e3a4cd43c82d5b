"""`network` of a board: a station that is on or off."""

# mypy: ignore-errors

import chip

STA_IF = 0
chip.state["radio"] = False


class WLAN:
    def __init__(self, interface):
        pass

    def active(self, on):
        chip.state["radio"] = on

    def isconnected(self):
        return chip.state["radio"]

    def config(self, *name, **values):
        return "home" if name == ("ssid",) else None


if chip.state["kind"] == "rp2":

    def _deinit(self):
        chip.state["radio"] = False

    WLAN.deinit = _deinit
