"""Keys as the vectors give them."""

from petiole import wire
from petiole.ccm import Ccm
from petiole.frame import Keys
from tests.core.support import Aes, unhex


def aead(key, tag_length):
    return Ccm(Aes(key), tag_length)


def keys_of(context, is_node, tag_length=8):
    node = aead(unhex(context["node_key"]), tag_length)
    gateway = aead(unhex(context["gateway_key"]), tag_length)
    iv = unhex(context["common_iv"])
    if is_node:
        return Keys(node, gateway, iv, wire.NODE_ID, wire.GATEWAY_ID, tag_length)
    return Keys(gateway, node, iv, wire.GATEWAY_ID, wire.NODE_ID, tag_length)
