"""Texts, numbers and messages that importers read."""

import math
import struct
from datetime import UTC, datetime

import pytest

from casket.imports import protobuf, tfevents
from casket.imports.parsing import number_of, parse_time, to_datetime, value_of, whole


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-0.5", -0.5),
        ("1e-05", 1e-05),
        ("1.0", 1.0),
        ("true", True),
        ("False", False),
        ("12345678901234567890", 12345678901234567890),
    ],
)
def test_what_is_exactly_a_number_or_a_truth_becomes_one(text, value):
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "007",
        "+1",
        ".5",
        "1.",
        "1_000",
        " 1",
        "1\n",
        "0x10",
        "nan",
        "inf",
        "1e999",
        "3.10",
        "8123e45",
        "1e-3",
        "1E5",
        "-0",
        "None",
        "[1]",
    ],
)
def test_everything_else_stays_text(text):
    assert value_of(text) == text
    assert value_of("9" * 5000) == "9" * 5000  # more digits than Python converts


def test_numbers_in_tables_may_be_nan_and_infinite():
    assert number_of("3") == 3
    assert number_of("-inf") == -math.inf
    assert math.isnan(number_of("nan"))
    assert number_of("[1, 2]") == "[1, 2]"


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, "1", None, 2**63, 1e300])
def test_what_is_no_whole_number(value):
    assert whole(value) is None
    assert whole(3.0) == 3


def test_times():
    start = datetime(1970, 1, 1, tzinfo=UTC)
    assert [to_datetime(value) for value in (0, math.nan, 1e300)] == [start] * 3
    assert parse_time("1970-01-01T00:00:00") == parse_time("1970-01-01T02:00:00+02:00") == start
    assert [parse_time(text) for text in (None, "today", 5)] == [None] * 3


def tensor(kind, field, *contents):
    """Return a tensor's message, with each content in a field."""
    parts = [bytes([8, kind])]
    parts += [bytes([field << 3 | 2, len(content)]) + content for content in contents]
    return b"".join(parts)


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (tensor(1, 5, struct.pack("<f", 0.1)), 0.1),
        (tensor(1, 4, struct.pack("<f", 1e-7)), 1e-7),
        (tensor(2, 6, struct.pack("<d", 0.1)), 0.1),
        (tensor(2, 4, struct.pack("<d", 1 / 3)), 1 / 3),
        (tensor(1, 5, struct.pack("<f", 3.4028234663852886e38)), 3.4028234663852886e38),
        (tensor(7, 8, b"a", "ü".encode()), "a\nü"),
        (tensor(1, 4, struct.pack("<2f", 1, 2)), None),
        (tensor(1, 4), None),
        (tensor(7, 8), None),
        (tensor(9, 4, bytes(8)), None),
    ],
)
def test_tensors_of_one_number_or_of_texts(message, value):
    assert tfevents._tensor(message) == value


@pytest.mark.parametrize(
    "message", [b"\x80", b"\xff" * 11, b"\x0a\x05ab", b"\x09\x00", b"\x0b\x00"]
)
def test_what_is_no_message_is_torn(message):
    with pytest.raises(protobuf.Damage):
        list(protobuf.fields(message))


def test_checksums_are_those_of_crc_32c():
    def unmasked(crc):
        rotated = (crc - 0xA282EAD8) & 0xFFFFFFFF
        return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF

    assert unmasked(tfevents._masked_crc(b"123456789")) == 0xE3069283


def test_an_event_of_wrong_types_is_torn(tmp_path):
    # Field 5, the summary, as a number.
    event = b"\x28\x01"
    header = struct.pack("<Q", len(event))
    crc = [struct.pack("<I", tfevents._masked_crc(data)) for data in (header, event)]
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(header + crc[0] + event + crc[1])
    with pytest.raises(protobuf.Damage, match="wrong type"):
        list(tfevents.values(path))
