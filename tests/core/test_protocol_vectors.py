"""The core against vectors that were made without it, from PROTOCOL.md alone."""

from petiole import counter, join, oscore, reassembly, records, states, wire
from petiole import frame as frames
from petiole.endpoint import NodeEndpoint
from petiole.errors import MalformedRecord
from petiole.outbox import Outbox
from petiole.records import Reading
from petiole.session import Session
from tests.core.support import raises, unhex, value_of, vectors
from tests.core.vector_keys import aead, keys_of

# Keys ------------------------------------------------------------------------------------------------------


def test_device_ids():
    cases = vectors("keys.json")["device_ids"]
    for case in cases:
        assert join.device_id(unhex(case["device_key"])).hex() == case["device_id"]
    # Ids collide; keys do not.
    assert cases[-1]["device_id"] == cases[-2]["device_id"]
    assert cases[-1]["device_key"] != cases[-2]["device_key"]


def test_keys_and_nonces_of_each_frame():
    for case in vectors("keys.json")["contexts"]:
        context = unhex(case["request"]) + unhex(case["accept_nonce"])
        ivs = {}
        for name, salt, id_context in (("join", wire.JOIN_SALT, None), ("session", wire.SESSION_SALT, context)):
            key = unhex(case["device_key"])
            derived = oscore.derive(key, salt, wire.NODE_ID, wire.GATEWAY_ID, id_context)
            expected = case[name]
            assert derived[0].hex() == expected["node_key"]
            assert derived[1].hex() == expected["gateway_key"]
            assert derived[2].hex() == expected["common_iv"]
            ivs[name] = derived[2]
        seen = []
        for entry in case["nonces"]:
            iv = ivs["join" if entry["frame"] == "JOIN_REQUEST" else "session"]
            nonce = oscore.nonce(iv, unhex(entry["id"]), entry["partial_iv"].to_bytes(5, "big"))
            assert nonce.hex() == entry["nonce"], entry
            under = (entry["frame"] == "JOIN_REQUEST", entry["sender"], nonce)
            assert under not in seen
            seen.append(under)


# Joins -----------------------------------------------------------------------------------------------------


def test_a_node_makes_the_requests_and_understands_the_accepts():
    for case in vectors("join.json")["valid"]:
        joiner = join.Joiner(aead, unhex(case["device_key"]))
        request = joiner.start(
            unhex(case["random"]),
            case["boot"],
            case["reset_reason"],
            unhex(case["manifest_hash"]),
            case["wants_full_sequence"],
        )
        assert request.hex() == case["request"], case["name"]
        accept = joiner.accept(frames.split(unhex(case["accept"])), case["own"] + 1)
        for field in ("address", "sequence", "is_doubtful", "is_exact", "time"):
            assert getattr(accept, field) == case[field], (case["name"], field)
        assert frames.seal_data(accept.keys, 1, b"", None, False).hex() == case["first_frame"]


def test_a_gateway_opens_the_requests_and_makes_the_accepts():
    for case in vectors("join.json")["valid"]:
        key = unhex(case["device_key"])
        request = join.open_request(aead, key, unhex(case["request"]))
        assert (request.boot, request.reset_reason) == (case["boot"], case["reset_reason"]), case["name"]
        assert request.manifest_hash.hex() == case["manifest_hash"]
        assert request.wants_full_sequence == case["wants_full_sequence"]
        nonce = unhex(case["accept_nonce"])
        accept, keys = join.accept(aead, key, request, case["address"], case["sequence"], nonce, case["is_doubtful"])
        assert accept.hex() == case["accept"], case["name"]
        part = frames.split(unhex(case["first_frame"]))
        assert frames.open_data(keys, part, 1, 1) == b""


def test_changed_joins_open_at_neither_end():
    for case in vectors("join.json")["invalid"]:
        key = unhex(case["device_key"])
        part = frames.split(unhex(case["frame"]))
        assert not isinstance(part, str), (case["name"], part)
        if case["what"] == "request":
            assert join.open_request(aead, key, unhex(case["frame"])) is None, case["name"]
            continue
        joiner = join.Joiner(aead, key)
        joiner.request = unhex(case["request"])
        assert joiner.accept(part, 45) is None, case["name"]
        # The right one is still waited for.
        assert joiner.request


# Frames ----------------------------------------------------------------------------------------------------


def window(highest, missing):
    out = counter.ReplayWindow(-1, 0)
    for number in range(max(0, highest - 40), highest + 1):
        if number not in missing:
            out.mark(number)
    return out


def receiver(document, case, is_node):
    keys = keys_of(document["session"], is_node, case.get("tag_length", 8))
    session = Session(keys, document["address"], 8, 0)
    if "highest" in case:
        session.replay = window(case["highest"], case["missing"])
    for number in case.get("unacknowledged", ()):
        session.recovery.sent(number, [], 0)
    return session


def test_valid_frames_open():
    document = vectors("frames.json")
    opened = []
    for case in document["valid"]:
        name = case["name"]
        part = frames.split(unhex(case["frame"]))
        assert not isinstance(part, str), (name, part)
        assert part.address == case["address"], name
        session = receiver(document, case, case["sender"] == "gateway")
        if case["type"] == "REJECT":
            assert (part.type, part.header & 15) == (wire.REJECT, case["reason"])
            assert case["rejected"].endswith(part.echo.hex())
        elif case["type"] == "ACK":
            assert session.receive_ack(part, 0), name
            left = [number for number in case["unacknowledged"] if number != case["counter"]]
            assert sorted(session.recovery.counters()) == left, name
        else:
            session.trace = lambda received, number, text: opened.append((number, bytes(text)))
            session.receive_data(part, 0, 40)
            assert opened.pop() == (case["counter"], unhex(case["plaintext"])), name
            assert not session.replay.check(case["counter"])


def test_the_core_makes_the_same_frames():
    document = vectors("frames.json")
    for case in document["valid"]:
        keys = keys_of(document["session"], case["sender"] == "node", case.get("tag_length", 8))
        address = case["address"]
        if case["type"] == "DATA":
            frame = frames.seal_data(keys, case["counter"], unhex(case["plaintext"]), address, case["is_long"])
        elif case["type"] == "ACK":
            frame = frames.seal_ack(keys, case["counter"], address)
        else:
            part = frames.split(unhex(case["rejected"]))
            part.address = address
            frame = frames.reject(part, case["reason"])
        assert frame.hex() == case["frame"], case["name"]


def node_in_session(document, case):
    node = NodeEndpoint(join.Joiner(aead, bytes(16)), bytes, b"", Outbox())
    node.link_up(0, False)
    node.session = receiver(document, case, True)
    node.state = states.ONLINE
    return node


def test_invalid_frames_are_dropped_for_their_reason():
    document = vectors("frames.json")
    for case in document["invalid"]:
        name = case["name"]
        frame = unhex(case["frame"])
        if case["receiver"] != "gateway":
            node = node_in_session(document, case)
            before = (node.session.replay.highest, node.session.opened_at, node.state)
            assert node.receive(frame, 9) == [], name
            assert node.dropped == {case["reason"]: 1}, (name, node.dropped)
            if case["reason"] != "malformed_record":
                assert (node.session.replay.highest, node.session.opened_at, node.state) == before, name
            assert node.session._acks.due == []
            assert sorted(node.session.recovery.counters()) == case["unacknowledged"], name
        if case["receiver"] != "node":
            session = receiver(document, case, False)
            highest = session.replay.highest
            part = frames.split(frame)
            reason = part if isinstance(part, str) else session.receive_data(part, 9)
            assert reason == case["reason"], name
            assert (session.replay.highest, session.opened_at, session._acks.due) == (highest, 0, []), name


# Records ---------------------------------------------------------------------------------------------------


def same(value, expected):
    """Equal, with the types that JSON and Python would take for equal told apart."""
    if isinstance(expected, (bool, float)) or isinstance(value, (bool, float)):
        return type(value) is type(expected) and value == expected
    if isinstance(expected, list):
        return isinstance(value, list) and len(value) == len(expected) and all(map(same, value, expected))
    return value == expected


def check_record(record, expected, name):
    if expected[0] == "reading":
        assert isinstance(record, Reading), name
        _, channel, sequence, form, moment, value = expected
        assert (record.channel, record.sequence) == (channel, sequence), (name, record.sequence)
        times = (moment, None) if form == "age" else (None, moment)
        assert (record.age_ms, record.at_ms) == times, (name, record.age_ms, record.at_ms)
        assert same(record.value, value_of(value)), name
        return
    kind, value = expected
    assert not isinstance(record, Reading), name
    assert record.kind == kind, name
    if kind < 0x40:
        assert same(record.value, value_of(value)), (name, record.value)
    elif kind == wire.FRAGMENT:
        assert record.value == (value[0], value[1], value[2], unhex(value[3])), name
    elif isinstance(value, list):
        assert list(record.value) == value, name
    else:
        assert record.value == value, name


def test_valid_records_are_understood():
    for case in vectors("records.json")["valid"]:
        name = case["name"]
        found = records.parse(unhex(case["plaintext"]), case["reference"], case["is_message"])
        assert len(found) == len(case["records"]), name
        for record, expected in zip(found, case["records"]):
            check_record(record, expected, name)
        if case["plaintext"] != "" and not found:
            # SEQUENCE alone leaves nothing behind, and asks for nothing.
            assert not case["asks_for_ack"]
        else:
            assert records.asks_for_ack(found) == case["asks_for_ack"], name


def test_malformed_records_make_the_whole_frame_void():
    for case in vectors("records.json")["invalid"]:
        error = raises(MalformedRecord, records.parse, unhex(case["plaintext"]), 0, case["is_message"])
        assert error.reason == "malformed_record"


# Fragments -------------------------------------------------------------------------------------------------


def test_messages_are_cut_as_said():
    for case in vectors("fragments.json")["messages"]:
        data = unhex(case["data"])
        parts = [reassembly.fragment(case["message"], n, data).hex() for n in range(reassembly.count(len(data)))]
        assert parts == case["fragments"]


def test_fragments_are_put_together_as_said():
    for case in vectors("fragments.json")["cases"]:
        together = reassembly.Reassembly()
        for index, step in enumerate(case["steps"]):
            where = (case["name"], index)
            assert together.expire(step["at"]) == step.get("expired", 0), where
            value = records.parse(unhex(step["record"]))[0].value
            whole = together.add(value, step["at"])
            result = step["result"]
            if result == "whole":
                assert whole == unhex(step["data"]), where
                if step.get("is_taken", True):
                    together.take(value[0])
                else:
                    together.release(value[0])
            elif result == "missing":
                assert whole is None, where
            else:
                assert whole == (b"" if result == "repeated" else result), (where, whole)
