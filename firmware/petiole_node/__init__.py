"""petiole on a node: `Node` is all that an application needs."""

from petiole_node.errors import RequestError, SettingsError
from petiole_node.node import Node

__all__ = ["Node", "RequestError", "SettingsError"]
