"""`network` of a board: a station that joins when `access_point` is there."""

# mypy: ignore-errors
# ruff: noqa: PLW0603
# A module is all the state there is, as on a board.

STA_IF = 0

access_point = ""
calls = []
joined = ""


class WLAN:
    def __init__(self, interface):
        self.is_active = False

    def active(self, on):
        self.is_active = on
        calls.append("on" if on else "off")

    def config(self, *name, **values):
        if values:
            calls.append("pm")
        return joined if name == ("ssid",) else None

    def isconnected(self):
        return bool(joined)

    def connect(self, ssid, password):
        global joined
        calls.append("connect")
        if ssid == access_point:
            joined = ssid

    def disconnect(self):
        calls.append("disconnect")

    def status(self):
        return 201
