"""The test vectors of records and fragments, from PROTOCOL.md, made without the core. `make_vectors` writes them."""

import struct
from typing import Any

from . import protocol_records as r
from .make_protocol_vectors import MANIFEST, SOURCE, TIME

Case = dict[str, Any]


def describe(value: Any) -> list[Any]:
    """JSON knows neither bytes nor the difference of 1 and 1.0."""
    if value is None or isinstance(value, bool):
        return ["simple", value]
    if isinstance(value, int):
        return ["int", str(value)]
    if isinstance(value, float):
        return ["float", struct.pack(">d", value).hex()]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, str):
        return ["text", value]
    if isinstance(value, list):
        return ["array", [describe(item) for item in value]]
    return ["map", [[describe(key), describe(item)] for key, item in value.items()]]


def records() -> dict[str, Any]:
    """`reference`: the highest number taken without a gap. A record is [kind, value]; a reading is ["reading", channel,
    number or null, "age" or "at", milliseconds, value]. SEQUENCE shows in the numbers only."""
    return {"source": SOURCE, "valid": [*_kinds(), *_readings(), *_numbers()], "invalid": _invalid()}


def _valid(name: str, plaintext: bytes, found: list[Any], asks: bool, reference: int = 0, **more: Any) -> Case:
    return {
        "name": name,
        "plaintext": plaintext.hex(),
        "reference": reference,
        "is_message": False,
        "asks_for_ack": asks,
        "records": found,
        **more,
    }


def _read(channel: int, number: int | None, form: str, moment: int, value: Any) -> list[Any]:
    return ["reading", channel, number, form, moment, describe(value)]


def _kinds() -> list[Case]:
    request = [513, 0, [True], 5000]
    mail = [(1 << 32) - 1, 0, [True]]
    out = [
        _valid("nothing", b"", [], True),
        _valid("ACK", r.acks(200, 0x81), [[0x40, [200, 0x81]]], False),
        _valid("FRAGMENT", r.fragment(255, 18, 4096, b"data"), [[0x41, [255, 18, 4096, b"data".hex()]]], True),
        _valid("FRAGMENT without data", r.fragment(0, 0, 1, b""), [[0x41, [0, 0, 1, ""]]], True),
        _valid("TIME", r.time(TIME), [[0x42, [0, TIME]]], False),
        _valid("TIME, doubtful, the last one", r.time((1 << 48) - 1, True), [[0x42, [1, (1 << 48) - 1]]], False),
        _valid("TIME_REQUEST", r.TIME_REQUEST, [[0x43, None]], True),
        _valid("SLEEP for 600 s", r.seconds(r.SLEEP, 1200), [[0x44, 1200]], False),
        _valid("SLEEP for 600 s, after the answer", r.seconds(r.SLEEP, 1201), [[0x44, 1201]], False),
        _valid("SLEEP, unknown", r.seconds(r.SLEEP, 0), [[0x44, 0]], False),
        _valid("BUSY", r.seconds(r.BUSY, 300), [[0x45, 300]], False),
        _valid("FLOOR", r.floor(1000, 200), [[0x46, [1000, 200]]], True),
        _valid("SEQUENCE alone", r.sequence(7), [], False),
        _valid("COUNTER_FLOOR", r.counter_floor(70000), [[0x48, 70000]], False),
        _valid("PING", r.PING, [[0x49, None]], True),
        _valid("MANIFEST_REQUEST", r.MANIFEST_REQUEST, [[0x4A, None]], True),
        _valid("PENDING", r.seconds(r.PENDING, 3), [[0x4B, 3]], False),
        _valid("AWAKE", r.seconds(r.AWAKE, 10), [[0x4C, 10]], False),
        _valid("MESSAGE_TAKEN", r.message_taken(254), [[0x4D, 254]], False),
        _valid("REQUEST", r.extension(r.REQUEST, request), [[1, describe(request)]], True),
        _valid("REQUEST of a node", r.extension(1, [1, "a.b", None]), [[1, describe([1, "a.b", None])]], True),
        _valid("REPLY", r.extension(r.REPLY, [513, 0, {"x": 1.5}]), [[2, describe([513, 0, {"x": 1.5}])]], True),
        _valid("MANIFEST", r.extension(r.MANIFEST, MANIFEST), [[3, describe(MANIFEST)]], True),
        _valid("LOG", r.extension(r.LOG, [30, "warm"]), [[4, describe([30, "warm"])]], False),
        _valid("MAIL", r.extension(r.MAIL, mail), [[9, describe(mail)]], True),
        _valid("MAIL again", r.extension(r.MAIL, [*mail, 2]), [[9, describe([*mail, 2])]], True),
        _valid("MAIL_RESULT", r.extension(r.MAIL_RESULT, [7, 0, None]), [[10, describe([7, 0, None])]], True),
        _valid("MAIL_RETURN", r.extension(r.MAIL_RETURN, 2), [[11, describe(2)]], True),
        _valid("POLICY", r.extension(r.POLICY, [600, 0]), [[16, describe([600, 0])]], True),
        _valid("an extension that nobody knows", r.extension(0x3F, b"\x01"), [[0x3F, describe(b"\x01")]], True),
        _valid("several", r.acks(1) + r.PING + r.message_taken(2), [[0x40, [1, 0]], [0x49, None], [0x4D, 2]], True),
        _valid("ACK and LOG", r.acks(1) + r.extension(4, [10, ""]), [[0x40, [1, 0]], [4, describe([10, ""])]], False),
        _valid(
            "ACK before a FRAGMENT", r.acks(9, 1) + r.fragment(3, 0, 2, b"\x49\x49"),
            [[0x40, [9, 1]], [0x41, [3, 0, 2, "4949"]]], True,
        ),
    ]  # fmt: skip
    for value in (0, 127, 128, 16383, 16384, (1 << 32) - 1):
        out.append(_valid(f"varint {value}", r.seconds(r.SLEEP, value), [[0x44, value]], False))
    message = r.floor(41, 0) + r.sequence(41) + r.reading(3, r.AT, "x" * 300, moment=TIME, is_confirmed=True)
    found = [[0x46, [41, 0]], _read(3, 41, "at", TIME, "x" * 300)]
    out.append(_valid("a message", message, found, True, 40, is_message=True))
    return out


def _readings() -> list[Case]:
    def live(channel: int, form: int, value: Any, moment: int = 0) -> bytes:
        return r.reading(channel, form, value, moment=moment)

    out = [
        _valid(f"channel {channel}", live(channel, r.NOW, 1), [_read(channel, None, "age", 0, 1)], False)
        for channel in (0, 1, 14, 15, 16, 255)
    ]
    escaped = b"\xf8\x03\x01"
    out.append(_valid("a small channel in a byte of its own", escaped, [_read(3, None, "age", 0, 1)], False))
    for value in (None, True, -1, 1 << 63, 0.5, 21.7, b"\0\xff", "°C", [], [1, [2]], {"a": 1, "b": [None]}):
        out.append(_valid(f"value {value!r}", live(2, r.NOW, value), [_read(2, None, "age", 0, value)], False))
    out += [
        _valid("the longest value", live(2, r.NOW, bytes(1021)), [_read(2, None, "age", 0, bytes(1021))], False),
        _valid("age 0", live(2, r.AGE, 1, 0), [_read(2, None, "age", 0, 1)], False),
        _valid("age of five bytes", live(2, r.AGE, 1, 4_000_000_000), [_read(2, None, "age", 4_000_000_000, 1)], False),
        _valid("time", live(2, r.AT, 1, TIME), [_read(2, None, "at", TIME, 1)], False),
        _valid(
            "after an age", live(2, r.AGE, 1, 5000) + live(3, r.AFTER, 2, 1500) + live(2, r.AFTER, 3, 3500),
            [_read(2, None, "age", 5000, 1), _read(3, None, "age", 3500, 2), _read(2, None, "age", 0, 3)], False,
        ),
        _valid(
            "after a time", live(2, r.AT, 1, TIME) + live(2, r.AFTER, 2, 0) + live(2, r.AFTER, 3, 4_000_000_000),
            [
                _read(2, None, "at", TIME, 1), _read(2, None, "at", TIME, 2),
                _read(2, None, "at", TIME + 4_000_000_000, 3),
            ], False,
        ),
        _valid(
            "after now, by nothing", live(2, r.NOW, 1) + live(2, r.AFTER, 2, 0),
            [_read(2, None, "age", 0, 1), _read(2, None, "age", 0, 2)], False,
        ),
        _valid(
            "other records between do not matter", live(2, r.AGE, 1, 50) + r.PING + live(2, r.AFTER, 2, 20),
            [_read(2, None, "age", 50, 1), [0x49, None], _read(2, None, "age", 30, 2)], True,
        ),
        _valid(
            "a float wider than need be", b"\x90\xfb\x3f\xf0" + bytes(6), [_read(2, None, "age", 0, 1.0)], False
        ),
        _valid(
            "map keys in another order", b"\x90\xa2\x61\x62\x01\x61\x61\x02",
            [_read(2, None, "age", 0, {"b": 1, "a": 2})], False,
        ),
    ]  # fmt: skip
    return out


def _numbers() -> list[Case]:
    def case(name: str, plaintext: bytes, numbers: list[int | None], reference: int) -> Case:
        found = [_read(0, number, "age", 0, index) for index, number in enumerate(numbers)]
        return _valid(name, plaintext, found, any(number is not None for number in numbers), reference)

    def confirmed(value: int, low: int | None = None) -> bytes:
        return r.reading(0, r.NOW, value, low=low, is_confirmed=True)

    live = r.reading(0, r.NOW, 1)
    out = [
        case("the first number", confirmed(0, 1), [1], 0),
        case("the next number", confirmed(0, 41), [41], 40),
        case("127 ahead", confirmed(0, (1000 + 127) % 256), [1127], 1000),
        case("127 behind", confirmed(0, (1000 - 127) % 256), [873], 1000),
        case("128 away is behind", confirmed(0, (1000 + 128) % 256), [872], 1000),
        case("128 away is ahead near 0", confirmed(0, 138), [138], 10),
        case("across a border", confirmed(0, 4), [260], 250),
        case("back across a border", confirmed(0, 250), [250], 260),
        case("never below 0", confirmed(0, 200), [200], 3),
        case("the same again", confirmed(0, 40), [40], 40),
        case("a run", confirmed(0, 255) + confirmed(1) + confirmed(2), [255, 256, 257], 254),
        case("a run with a live one between", confirmed(0, 41) + live + confirmed(2), [41, None, 42], 40),
        case("SEQUENCE", r.sequence(70000) + confirmed(0) + confirmed(1), [70000, 70001], 3),
        case("SEQUENCE, the last of two counts", r.sequence(5) + r.sequence(9) + confirmed(0), [9], 3),
        case("SEQUENCE in the middle", confirmed(0, 41) + r.sequence(50) + confirmed(1), [41, 50], 40),
        case("SEQUENCE before a live one", r.sequence(41) + r.reading(0, r.NOW, 0) + confirmed(1), [None, 41], 3),
        case("SEQUENCE, largest", r.sequence((1 << 32) - 1) + confirmed(0), [(1 << 32) - 1], 3),
    ]
    plaintext = r.floor(300, 299) + r.sequence(300) + confirmed(0)
    floored = [[0x46, [300, 299]], _read(0, 300, "age", 0, 0)]
    out.append(_valid("FLOOR, SEQUENCE, reading", plaintext, floored, True, 3))
    return out


def _invalid() -> list[Case]:
    """Each makes the whole frame void: `malformed_record`."""
    good = r.reading(0, r.NOW, 1, low=1)
    cases: list[tuple[str, bytes]] = [
        ("kind 0", b"\0"),
        ("kind 0 after a good record", good + b"\0"),
        ("an unknown compact kind", b"\x4e"),
        ("an unknown compact kind, 7F", b"\x7f\0\0"),
        ("ACK, cut", b"\x40\x01"),
        ("FRAGMENT, cut", b"\x41\0\0\0"),
        ("TIME, cut", r.time(TIME)[:-1]),
        ("TIME, a reserved flag", b"\x42\x02" + r.time(TIME)[2:]),
        ("SLEEP without its varint", b"\x44"),
        ("varint without an end", b"\x44\x80"),
        ("varint with a last byte of zero", b"\x44\x80\0"),
        ("varint of six bytes", b"\x44\x80\x80\x80\x80\x80\x01"),
        ("varint above 32 bits", b"\x44\x80\x80\x80\x80\x10"),
        ("FLOOR, cut", r.floor(1, 0)[:-1]),
        ("FLOOR, half", b"\x46\0\0"),
        ("SEQUENCE, cut", b"\x47\0\0\x01"),
        ("COUNTER_FLOOR, cut", b"\x48\0\0\x01"),
        ("MESSAGE_TAKEN, cut", b"\x4d"),
        ("an extension without its item", b"\x3f"),
        ("an extension with half an item", b"\x01\x83\x01"),
        ("a reading without its value", b"\x80"),
        ("a reading without its channel", b"\xf8"),
        ("a reading without its number", b"\x81"),
        ("a reading without its age", b"\x82"),
        ("a reading with half a time", b"\x84\0\0\0\0\0"),
        ("a reading with half a value", b"\x80\x42\0"),
        ("TT 3 in the first reading", r.reading(0, r.AFTER, 1, moment=0)),
        ("TT 3 in the first reading, after another record", r.PING + r.reading(0, r.AFTER, 1, moment=0)),
        ("a reading from the future", r.reading(0, r.AGE, 1, moment=5) + r.reading(0, r.AFTER, 1, moment=6)),
        ("after now", r.reading(0, r.NOW, 1) + r.reading(0, r.AFTER, 1, moment=1)),
        ("a value of 1025 bytes", r.reading(0, r.NOW, bytes(1022))),
        ("a tag of CBOR", b"\x80\xc1\x01"),
        ("an indefinite length", b"\x80\x9f\xff"),
        ("`undefined`", b"\x80\xf7"),
        ("a simple value", b"\x80\xf8\x20"),
        ("an integer not in its shortest form", b"\x80\x18\x17"),
        ("a length not in its shortest form", b"\x80\x58\x01\0"),
        ("text that is not UTF-8", b"\x80\x61\xff"),
        ("a key twice", b"\x80\xa2\x01\x01\x01\x02"),
        ("bytes as a key", b"\x80\xa1\x41\0\x01"),
        ("nine levels", b"\x80" + b"\x81" * 9 + b"\x01"),
        ("1025 items", b"\x3f\x99\x04\0" + b"\xf6" * 1024),
        ("good records before do not help", good + r.PING + b"\x40"),
    ]
    out = [{"name": name, "plaintext": data.hex(), "is_message": False} for name, data in cases]
    inner = r.PING + r.fragment(0, 0, 1, b"\x49")
    out.append({"name": "FRAGMENT in a message", "plaintext": inner.hex(), "is_message": True})
    short = r.reading(0, r.AT, 1, moment=TIME, low=41)
    out.append({"name": "a number of one byte in a message", "plaintext": short.hex(), "is_message": True})
    return out


# Fragments -------------------------------------------------------------------------------------------------


def fragments() -> dict[str, Any]:
    """Steps of a receiver, each a FRAGMENT record that comes `at` a time in ms. `result`: "missing", "whole",
    "repeated", or the drop reason. After "whole" the records are taken at once, unless `is_taken` is false."""
    text = bytes(number % 251 for number in range(500))
    one, two, three = r.fragments(7, text)
    exact = r.fragments(8, text[:448])
    longest = bytes(4096)
    return {
        "source": SOURCE,
        "messages": [
            _message(length, number) for number, length in enumerate((1, 223, 224, 225, 448, 449, 4095, 4096))
        ],
        "cases": [
            _case("in order", _step(one), _step(two), _whole(three, text)),
            _case("in any order", _step(three), _step(one), _whole(two, text)),
            _case("a part twice", _step(one), _step(one), _step(three), _step(three), _whole(two, text)),
            _case("a multiple of 224", _step(exact[1]), _whole(exact[0], text[:448])),
            _case("one fragment", _whole(r.fragment(0, 0, 3, b"abc"), b"abc")),
            _case("the longest", *_all(5, longest)),
            _case("again when taken", *_all(7, text), _step(three, "repeated"), _step(one, "repeated")),
            _case(
                "again when whole but not taken", _step(one), _step(two), {**_whole(three, text), "is_taken": False},
                _step(three), _step(one), _whole(two, text), _step(two, "repeated"),
            ),
            _case(
                "the fifth message forgets the first", *(step for n in range(5) for step in _all(n, b"abc")),
                _step(r.fragment(4, 0, 3, b"abc"), "repeated"), _step(r.fragment(1, 0, 3, b"abc"), "repeated"),
                _whole(r.fragment(0, 0, 3, b"abc"), b"abc"),
            ),
            _case(
                "two at once", _step(r.fragments(1, text)[0]), _step(r.fragments(2, text)[0]),
                *_rest(1, text), *_rest(2, text),
            ),
            _case(
                "a third pushes out the older", _step(r.fragments(1, text)[0]), _step(r.fragments(2, text)[0]),
                _step(r.fragments(3, text)[0]), *_rest(2, text), *_rest(3, text),
                _step(r.fragments(1, text)[1]), _step(r.fragments(1, text)[2]), _whole(r.fragments(1, text)[0], text),
            ),
            _case("complete just in time", _step(one, at=1000), _step(two, at=1000), _whole(three, text, at=30999)),
            _case(
                "too late", _step(one, at=1000), _step(two, at=20000),
                {**_step(three, at=31000), "expired": 1}, _step(one, at=31000), _whole(two, text, at=31000),
            ),
            _case("total 0", _step(r.fragment(1, 0, 0, b""), "malformed_fragment")),
            _case("total 4097", _step(r.fragment(1, 0, 4097, bytes(224)), "malformed_fragment")),
            _case("an index beyond the total", _step(r.fragment(1, 3, 500, bytes(52)), "malformed_fragment")),
            _case("index 255", _step(r.fragment(1, 255, 500, bytes(224)), "malformed_fragment")),
            _case("a byte too few", _step(r.fragment(1, 0, 500, bytes(223)), "malformed_fragment")),
            _case("a byte too many at the end", _step(r.fragment(1, 2, 500, bytes(53)), "malformed_fragment")),
            _case("no data", _step(r.fragment(1, 0, 500, b""), "malformed_fragment")),
            _case("an empty one beyond the end", _step(r.fragment(1, 2, 448, b""), "malformed_fragment")),
            _case(
                "another total", _step(one), _step(r.fragment(7, 1, 499, bytes(224)), "malformed_fragment"),
                _step(two), _whole(three, text),
            ),
        ],
    }  # fmt: skip


def _message(length: int, number: int) -> Case:
    """What a sender cuts."""
    data = bytes(position * 7 % 256 for position in range(length))
    return {"message": number, "data": data.hex(), "fragments": [part.hex() for part in r.fragments(number, data)]}


def _case(name: str, *steps: Case) -> Case:
    return {"name": name, "steps": list(steps)}


def _step(record: bytes, result: str = "missing", at: int = 0) -> Case:
    return {"at": at, "record": record.hex(), "result": result}


def _whole(record: bytes, data: bytes, at: int = 0) -> Case:
    return {**_step(record, "whole", at), "data": data.hex()}


def _all(number: int, data: bytes) -> list[Case]:
    parts = r.fragments(number, data)
    return [_step(part) for part in parts[:-1]] + [_whole(parts[-1], data)]


def _rest(number: int, data: bytes) -> list[Case]:
    return _all(number, data)[1:]
