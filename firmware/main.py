"""Runs at power-on: starts `app.py`. What ends it by an error is kept, told to the gateway, and followed by a reset."""

from petiole_node import port

board = port.choose()
try:
    board.safe_window()
    import app  # noqa: F401 - importing runs it
except Exception as error:
    board.crashed(error)
    board.reset()
