"""The dissector, in a real tshark, over the shared vectors: what it shows is what they say.

PDML is what tshark prints for programs; vectors stand in one capture, one frame each.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterable
from typing import Any

import cbor2
import pytest

from petiole import wire
from petiole_tools.pcapng import MAX_INTERFACES, CaptureWriter
from tests.core.support import value_of, vectors

from .tshark import TSHARK, Shown, tshark

needs_tshark = pytest.mark.skipif(TSHARK is None, reason="no tshark: apt install tshark")
TYPES = {"DATA": 1, "ACK": 2, "JOIN_REQUEST": 3, "JOIN_ACCEPT": 4, "REJECT": 5}
HEADER_REASONS = {"empty", "oversize", "unknown_type", "reserved_bits", "address_form", "short"}


def document(frame: str = "2001" + "00" * 8, **fields: Any) -> dict[str, Any]:
    """What the gateway would publish."""
    return {
        "at": "2026-11-01T12:00:00.250Z",
        "link": "udp",
        "direction": "up",
        "device": "kitchen",
        "frame": frame,
        "counter": None,
        "reference": None,
        "plaintext": None,
        "dropped": None,
        **fields,
    }


def capture(documents: Iterable[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    writer = CaptureWriter(stream)
    for each in documents:
        writer.frame(each)
    return stream.getvalue()


def test_the_capture_is_what_the_format_says() -> None:
    """Blocks one after the other, each with its length at both ends and padded to 32 bits."""
    data = capture([document(), document(link="/dev/ttyUSB0"), document(skipped=3)])
    kinds, position = [], 0
    while position < len(data):
        kind, length = struct.unpack_from("<II", data, position)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, position + length - 4) == (length,)
        kinds.append(kind)
        position += length
    assert kinds == [0x0A0D0D0A, 1, 6, 1, 6, 6], "an interface stands before its first frame"


def test_links_beyond_a_bound_make_no_more_interfaces() -> None:
    data = capture(document(link=f"link {number}") for number in range(MAX_INTERFACES + 10))
    assert data.count(struct.pack("<HHI", 147, 0, 65535)) == MAX_INTERFACES


@needs_tshark
def test_a_frame_has_its_link_time_direction_and_device() -> None:
    up, down, unknown = tshark(
        capture(
            [
                document(link="/dev/ttyUSB0", counter=257, plaintext="49"),
                document(direction="down", dropped=None),
                document(device=None, dropped="tag"),
            ]
        )
    )
    assert (up.interface, down.interface) == ("/dev/ttyUSB0", "udp")
    assert up.time.startswith("1793534400.25") or "12:00:00.25" in up.time, up.time
    assert (up.one("petiole.direction"), up.one("petiole.device")) == ("up", "kitchen")
    assert up.all("petiole.counter") == ["257"], "the whole counter, not its lowest byte"
    assert down.one("petiole.direction") == "down"
    assert unknown.all("petiole.device") == []
    assert unknown.one("petiole.dropped") == "tag"
    assert "_ws.expert" in unknown.text


@needs_tshark
def test_valid_frames_show_the_fields_of_the_vectors() -> None:
    cases = vectors("frames.json")["valid"]
    shown = tshark(
        capture(document(case["frame"], counter=case.get("counter"), plaintext=case.get("plaintext")) for case in cases)
    )
    assert len(shown) == len(cases) > 20
    for case, each in zip(cases, shown, strict=True):
        name, frame = case["name"], bytes.fromhex(case["frame"])
        assert set(each.all("petiole.malformed")) <= {"malformed_fragment"}, name  # what it holds is no frame's matter
        assert int(each.one("petiole.type")) == TYPES[case["type"]], name
        expected = [] if case["address"] is None else [str(case["address"])]
        assert each.all("petiole.address") == expected, name
        length = case.get("tag_length", 8)
        if case["type"] == "REJECT":
            assert int(each.one("petiole.reject.reason")) == case["reason"], name
            assert each.bytes_of("petiole.reject.echo").hex() == case["rejected"][-8:], name
            continue
        assert each.bytes_of("petiole.tag") == frame[-length:], name
        if case["type"] == "DATA":
            assert each.one("petiole.counter") == str(case["counter"]), name
            assert bool(each.all("petiole.counter.low")) != case["is_long"], name
            ciphertext = frame[len(frame) - length - len(case["plaintext"]) // 2 : -length]
            assert b"".join(data for n, _, data in each.fields if n == "petiole.ciphertext") == ciphertext, name
        elif case["type"] == "ACK":
            assert int(each.one("petiole.acked.low")) == case["counter"] % 8, name


@needs_tshark
def test_invalid_frames_are_malformed_for_the_reason_of_the_vectors() -> None:
    cases = vectors("frames.json")["invalid"]
    shown = tshark(capture(document(case["frame"], dropped=case["reason"]) for case in cases))
    reasons = set()
    for case, each in zip(cases, shown, strict=True):
        # What a tag or a counter says is for whoever has the keys.
        expected = [case["reason"]] if case["reason"] in HEADER_REASONS else []
        assert each.all("petiole.malformed") == expected, case["name"]
        assert each.one("petiole.dropped") == case["reason"], case["name"]
        reasons.update(expected)
    assert reasons == HEADER_REASONS


@needs_tshark
def test_joins_show_the_fields_of_the_vectors() -> None:
    document_ = vectors("join.json")
    cases = document_["valid"]
    shown = tshark(capture(document(case[part]) for case in cases for part in ("request", "accept")))
    for case, request, accept in zip(cases, shown[::2], shown[1::2], strict=True):
        name = case["name"]
        assert request.bytes_of("petiole.join.device_id").hex() == case["request"][2:8], name
        assert request.bytes_of("petiole.join.random").hex() == case["random"], name
        assert int(request.one("petiole.join.boot")) == case["boot"] & 0xFF, name
        assert request.one("petiole.version") == str(wire.VERSION)
        assert (request.one("petiole.full_sequence") in ("1", "True")) == case["wants_full_sequence"], name
        assert accept.one("petiole.time_ms") == str(case["time"]), name
        assert accept.bytes_of("petiole.join.random").hex() == case["accept_nonce"][12:], name
        assert (accept.one("petiole.doubtful") in ("1", "True")) == case["is_doubtful"], name
        assert (accept.one("petiole.full_sequence") in ("1", "True")) == case["is_exact"], name
        assert accept.bytes_of("petiole.ciphertext").hex() == case["accept"][16:-16], name
        assert request.all("petiole.malformed") == accept.all("petiole.malformed") == []
    for each in tshark(capture(document(case["frame"]) for case in document_["invalid"])):
        assert each.fields


def of_records(plaintext: str, reference: int | None, device: str, is_message: bool) -> list[dict[str, Any]]:
    """The frames that bring a plaintext, or a message in its fragments; the last one shows its records."""
    if not is_message:
        return [document(plaintext=plaintext, reference=reference, device=device)]
    data = bytes.fromhex(plaintext)
    size = wire.FRAGMENT_SIZE
    fragments = [data[at : at + size] for at in range(0, len(data), size)]
    head = [bytes((wire.FRAGMENT, 7, index)) + len(data).to_bytes(2, "big") for index in range(len(fragments))]
    return [
        document(plaintext=(start + part).hex(), device=device) for start, part in zip(head, fragments, strict=True)
    ]


def dissected(cases: list[dict[str, Any]], *options: str) -> list[Shown]:
    groups = [
        of_records(case["plaintext"], case.get("reference"), f"d{number}", case["is_message"])
        for number, case in enumerate(cases)
    ]
    shown = tshark(capture(each for group in groups for each in group), *options)
    found, position = [], 0
    for group in groups:
        position += max(1, len(group))
        found.append(shown[position - 1])
    return found


def same_value(data: bytes, spec: Any) -> bool:
    value, expected = cbor2.loads(data), value_of(spec)
    return repr(value) == repr(expected)


@needs_tshark
@pytest.mark.parametrize("options", [(), ("-2",)], ids=["once", "twice"])
def test_records_show_the_fields_of_the_vectors(options: tuple[str, ...]) -> None:
    """Also when Wireshark looks a second time, as it does whenever somebody clicks on a frame."""
    cases = [case for case in vectors("records.json")["valid"] if case["plaintext"] or not case["is_message"]]
    assert len(cases) > 80
    for case, each in zip(cases, dissected(cases, *options), strict=True):
        name = case["name"]
        # As a record it is sound, whatever the message would say to it.
        assert "malformed_record" not in each.all("petiole.malformed"), name
        # SEQUENCE is shown, and in the vectors a part of what follows it; a fragment's record is not of the message.
        records = [record for record in each.records if record[0] != wire.SEQUENCE]
        if case["is_message"]:
            records = [record for record in records if record[0] != wire.FRAGMENT]
        else:  # what a whole message holds stands behind its last fragment
            ends = [place for place, record in enumerate(records) if record[0] == wire.FRAGMENT]
            records = records[: ends[0] + 1] if ends else records
        assert len(records) == len(case["records"]), name
        for (kind, fields), expected in zip(records, case["records"], strict=True):
            check_record(name, kind, fields, expected)


def check_record(name: str, kind: int, fields: list[tuple[str, str, bytes]], expected: Any) -> None:
    shown = {field: text for field, text, _ in fields}
    data = {field: value for field, _, value in fields}
    if expected[0] == "reading":
        _, channel, sequence, form, moment, value = expected
        assert kind >= wire.READING, name
        assert shown["petiole.reading.channel"] == str(channel), name
        assert shown.get("petiole.sequence") == (None if sequence is None else str(sequence)), name
        assert (shown["petiole.reading.confirmed"] in ("1", "True")) == (sequence is not None), name
        assert shown["petiole.time_ms" if form == "at" else "petiole.reading.age_ms"] == str(moment), name
        assert same_value(data["petiole.cbor"], value), name
        if value[0] == "int":
            assert shown["petiole.reading.value"] == value[1], name
        return
    number, value = expected
    assert kind == number, name
    if number < 0x40:
        assert same_value(data["petiole.cbor"], value), name
    elif number == wire.ACKS:
        assert [int(shown["petiole.ack.highest"]), int(shown["petiole.ack.bitmap"], 0)] == value, name
    elif number == wire.FRAGMENT:
        told = [int(shown[f"petiole.{field}"]) for field in ("message", "fragment.index", "fragment.total")]
        assert [*told, data.get("petiole.fragment.data", b"").hex()] == value, name
    elif number == wire.TIME:
        assert [int(shown["petiole.doubtful"] in ("1", "True")), int(shown["petiole.time_ms"])] == value, name
    elif number == wire.SLEEP:
        listens = shown["petiole.sleep.listens"] in ("1", "True")
        assert 2 * int(shown["petiole.seconds"]) + listens == value, name
    elif number == wire.FLOOR:
        assert [int(shown["petiole.sequence"]), int(shown["petiole.floor.dropped"])] == value, name
    elif value is not None:
        [text] = [text for field, text, _ in fields if field.startswith("petiole.")]
        assert int(text) == value, name


@needs_tshark
def test_invalid_records_are_malformed() -> None:
    cases = vectors("records.json")["invalid"]
    assert len(cases) > 40
    for case, each in zip(cases, dissected(cases), strict=True):
        assert "malformed_record" in each.all("petiole.malformed"), case["name"]
        assert "petiole.expert.malformed" in each.text, case["name"]


@needs_tshark
def test_fragments_become_messages_as_in_the_vectors() -> None:
    cases = vectors("fragments.json")["cases"]
    steps = [(number, case, step) for number, case in enumerate(cases) for step in case["steps"]]
    shown = tshark(capture(document(plaintext=step["record"], device=f"d{number}") for number, _, step in steps))
    wholes = 0
    for (_, case, step), each in zip(steps, shown, strict=True):
        name = case["name"]
        is_wrong = "malformed_fragment" in each.all("petiole.malformed")
        assert is_wrong == (step["result"] == "malformed_fragment"), name
        if step["result"] == "whole" and name not in ("too late", "complete just in time"):
            data = b"".join(value for field, _, value in each.fields if field == "petiole.message.data")
            assert data.hex() == step["data"], name
            wholes += 1
    assert wholes >= 8


@needs_tshark
def test_looking_again_shows_a_message_as_it_was_then() -> None:
    """Not mixed up with what came later under the same number."""
    first = of_records("49" * 300, None, "d", True)
    later = of_records("43" * 500, None, "d", True)[0]
    _, last, unfinished = tshark(capture([*first, later]), "-2")
    assert last.all("petiole.malformed") == unfinished.all("petiole.malformed") == []
    assert [kind for kind, _ in last.records].count(wire.PING) == 300


@needs_tshark
def test_a_whole_exchange_is_shown_frame_by_frame() -> None:
    sends = [sent for step in vectors("exchange.json")["steps"] for sent in step["sends"]]
    for sent, each in zip(sends, tshark(capture(document(sent["frame"]) for sent in sends)), strict=True):
        kind = sent["says"].replace(":", " ").split()[0]
        assert int(each.one("petiole.type")) == TYPES[kind], sent


@needs_tshark
def test_published_cbor_values_are_read_as_readings() -> None:
    """Values of RFC 8949's own examples, as far as the protocol takes them."""
    cases = [case for case in vectors("rfc8949.json")["valid"] if len(case["hex"]) // 2 <= wire.MAX_VALUE]
    shown = tshark(capture(document(plaintext="80" + case["hex"], device=f"d{n}") for n, case in enumerate(cases)))
    for case, each in zip(cases, shown, strict=True):
        assert each.all("petiole.malformed") == [], case
        assert each.bytes_of("petiole.cbor").hex() == case["hex"]


@needs_tshark
def test_whatever_comes_is_shown_or_malformed_and_never_an_error_of_lua() -> None:
    chance = random.Random(20)
    plaintexts = [bytes.fromhex(case["plaintext"]) for case in vectors("records.json")["valid"]]
    frames = [bytes.fromhex(case["frame"]) for case in vectors("frames.json")["valid"]]
    documents = []
    for _ in range(1500):
        plaintext, frame = bytearray(chance.choice(plaintexts)), bytearray(chance.choice(frames))
        for data in (plaintext, frame):
            for _ in range(chance.randrange(3)):
                if data:
                    data[chance.randrange(len(data))] = chance.randrange(256)
            del data[chance.randrange(len(data) + 1) :]
        documents.append(
            document(
                bytes(frame).hex(),
                plaintext=bytes(plaintext).hex() if chance.random() < 0.8 else None,
                counter=chance.choice((None, 3)),
                reference=chance.choice((None, 0, 2**32 - 1)),
                direction=chance.choice(("up", "down")),
                device=chance.choice((None, "a", "\u00e4" * 40)),
            )
        )
    data = capture(documents)
    assert len(tshark(data)) == 1500
    # Headers of the capture itself, cut anywhere.
    whole = capture([document(plaintext="49")])
    start = whole.rindex(b"\x01\x02\x00\x00\x00\x00")
    packets = []
    for cut in range(1, 24):
        short = whole[start : start + cut]
        block = struct.pack("<IIIII", 0, 0, 0, len(short), len(short)) + short + bytes(-len(short) % 4)
        packet = struct.pack("<II", 6, len(block) + 12) + block + struct.pack("<I", len(block) + 12)
        packets.append(packet)
    shown = tshark(_before_packets(whole) + b"".join(packets))
    assert [bool(each.fields) for each in shown] == [True] * len(packets)


def _before_packets(data: bytes) -> bytes:
    position = 0
    while struct.unpack_from("<I", data, position)[0] != 6:
        position += struct.unpack_from("<I", data, position + 4)[0]
    return data[:position]


def test_documents_that_are_no_frames_are_refused() -> None:
    for odd in ({"frame": "xyz"}, {"frame": "00", "plaintext": "1"}):
        with pytest.raises(ValueError, match=r"."):
            CaptureWriter(io.BytesIO()).frame(document(**odd))
