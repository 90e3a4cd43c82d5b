from petiole import cbor, manifest, wire
from petiole.errors import LocalError
from tests.core.support import raises

CHANNEL = [0, "temperature", "Cel", "f", 60]
COMMAND = [0, "led", [["on", "b", True]]]


def checked(channels=(CHANNEL,), commands=(COMMAND,), fw="1.0"):
    data = manifest.encode(fw, list(channels), list(commands), [0, 0])
    return manifest.check(cbor.decode(data)[0])


def test_what_a_node_writes_a_gateway_accepts():
    assert checked() == ""
    assert checked((), ()) == ""


def test_the_same_manifest_has_the_same_hash():
    one = manifest.encode("1.0", [CHANNEL], [COMMAND], [0, 0])
    assert manifest.digest(one) == manifest.digest(manifest.encode("1.0", [CHANNEL], [COMMAND], [0, 0]))
    assert manifest.digest(one) != manifest.digest(manifest.encode("1.1", [CHANNEL], [COMMAND], [0, 0]))
    assert len(manifest.digest(one)) == wire.MANIFEST_HASH_LENGTH


def test_names_are_what_a_subject_may_hold():
    for name in ("a", "A-9_z", "x" * 32):
        assert manifest.is_token(name)
        assert checked([[0, name, "", "f", 0]]) == ""
    for name in ("", "x" * 33, "a.b", "a b", "*", ">", "ü", "a\n", "$SYS"):
        assert not manifest.is_token(name)
        assert checked([[0, name, "", "f", 0]]) != "", name
        assert checked((), [[0, name, []]]) != "", name
    assert raises(LocalError, manifest.check_token, "channel", "a.b").what == "channel"


def test_what_does_not_fit_is_said():
    for value in (None, 1, [], {}, {"fw": 1}, {"fw": "1", "ch": [1]}, {"fw": "1", "ch": [[0, "a"]]}):
        assert manifest.check(value) != "", value
    for value in ({"fw": "1", "ch": 5}, {"fw": "1", "cmd": 5}, {"fw": "1", "ch": {"a": 1}}, {"fw": "1", "cmd": "led"}):
        assert manifest.check(value) != "", value
    assert checked([["0", "a", "", "f", 0]]) != ""
    assert checked([[0, "a", "u" * 17, "f", 0]]) != ""
    assert checked([[0, "a", "", "q", 0]]) != ""
    assert checked([[0, "a", "", "fi", 0]]) != ""
    assert checked([[0, "a", "", "", 0]]) != ""
    assert checked([[0, "a", "", "f", 0], [0, "b", "", "f", 0]]) != ""
    for number in (-1, 256, True, 1.0):
        assert checked([[number, "a", "", "f", 0]]) != "", number
        assert checked((), [[number, "a", []]]) != "", number
    for argument in (["x", "f"], ["x.y", "f", True], ["x", "q", True], ["x", "", True], ["x", 1, True], [1, "f", True]):
        assert checked((), [[0, "a", [argument]]]) != "", argument
    assert checked((), [[0, "a", "x"]]) != ""
    assert checked((), [[0, "a", [["x", "f"]]]]) != ""
    assert checked((), [[0, "a", []], [0, "b", []]]) != ""


def test_64_channels_and_commands_are_the_most():
    channels = [[n, "c" + str(n), "", "f", 0] for n in range(65)]
    commands = [[n, "c" + str(n), []] for n in range(65)]
    assert checked(channels[:64], commands[:64]) == ""
    assert checked(channels, ()) != ""
    assert checked((), commands) != ""


def test_what_a_newer_node_adds_is_left_alone():
    value = {"fw": "1", "ch": [CHANNEL + ["more"]], "cmd": [COMMAND + [1]], "new": {"x": 1}}
    assert manifest.check(value) == ""
