"""The protocol: what is written can be read, and nothing that can be written breaks the reader."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from SparseAnatomyLib.protocol import (
    FAILURE_KINDS,
    MAX_LINE_BYTES,
    PREFIX,
    PROTOCOL_VERSION,
    Failure,
    Preview,
    Progress,
    ProtocolError,
    Request,
    Result,
    Started,
    VersionError,
    Warn,
    event_line,
    parse_event,
    parse_request,
    read_lines,
    request_line,
)

ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
texts = st.text(alphabet=st.characters())  # lone surrogates too: a path on Linux may hold any bytes
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
events = st.one_of(
    st.builds(Started, ids),
    st.builds(Progress, ids, st.floats(0, 1), texts),
    st.builds(Preview, ids, texts),
    st.builds(Warn, ids, texts),
    st.builds(Result, ids, st.dictionaries(texts, texts, max_size=4)),
    st.builds(Failure, ids, st.sampled_from(FAILURE_KINDS), texts, texts),
)


@given(ids, texts, st.dictionaries(st.text(), json_values, max_size=4))
def test_a_request_survives_the_line(request_id, kind, payload):
    request = Request(request_id, kind, payload)
    line = request_line(request)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert parse_request(line) == request


@given(events)
def test_an_event_survives_the_line(event):
    line = event_line(event)
    assert line.count(b"\n") == 2 and line.startswith(b"\n") and line.endswith(b"\n")
    assert parse_event(line.strip(b"\n")) == event


@given(st.binary() | st.text().map(str.encode) | json_values.map(json.dumps).map(str.encode))
def test_any_line_is_an_event_or_chatter_or_a_protocol_error(line):
    for candidate in (line, PREFIX.encode() + line):
        try:
            event = parse_event(candidate)
        except ProtocolError as error:
            assert candidate.startswith(PREFIX.encode()) and str(error)
        else:
            assert event is None or candidate.startswith(PREFIX.encode())
    try:
        parse_request(line)
    except ProtocolError as error:
        assert str(error)


@given(events, st.sampled_from(["id", "event", "fraction", "message", "path", "paths", "kind", "remedy", "protocol_version"]), json_values)
def test_one_wrong_field_is_a_protocol_error_or_still_valid(event, name, value):
    values = json.loads(event_line(event).strip()[len(PREFIX) :])
    values[name] = value
    try:
        parse_event(PREFIX.encode() + json.dumps(values).encode())
    except ProtocolError as error:
        assert name in str(error)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"id": NaN}', "not JSON"),
        (b"1" * 5_000, "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[1]", "list"),
        (b'{"id": "a b"}', "id"),
        (b'{"id": "../../etc"}', "id"),
        (b'{"id": 3}', "id"),
        (b'{"id": "a", "protocol_version": 1, "kind": 4}', "kind"),
        (b'{"id": "a", "protocol_version": 1, "kind": "ping", "payload": []}', "payload"),
    ],
)
def test_bad_requests_name_the_field(line, words):
    with pytest.raises(ProtocolError, match=words):
        parse_request(line)


@pytest.mark.parametrize("version", [PROTOCOL_VERSION + 1, 0, -1, None, "1", 1.0, True, [[]]])
def test_another_version_is_refused_and_says_whose_request_it_was(version):
    line = json.dumps({"protocol_version": version, "id": "job-1", "kind": "ping", "payload": {}}).encode()
    with pytest.raises(VersionError, match="protocol_version: expected 1") as caught:
        parse_request(line)
    assert caught.value.request_id == "job-1"


@pytest.mark.parametrize("fraction", ["1e999", "-0.1", "1.5", "true", '"half"', "1" + "0" * 400])
def test_a_fraction_lies_between_0_and_1(fraction):
    line = PREFIX + '{"protocol_version": 1, "event": "progress", "id": "a", "message": "", "fraction": ' + fraction + "}"
    with pytest.raises(ProtocolError, match="fraction"):
        parse_event(line.encode())


def test_chatter_without_an_end_of_line_does_not_swallow_the_event():
    stream = io.BytesIO(b"50% done..." + event_line(Started("a")) + b"more")
    assert [parse_event(line) for line in read_lines(stream)] == [None, Started("a"), None]


def test_a_giant_line_is_cut_and_the_next_one_is_whole():
    stream = io.BytesIO(b"x" * (3 * MAX_LINE_BYTES + 7) + b"\nnext\r\n" + b"y" * MAX_LINE_BYTES + b"\nlast")
    lines = list(read_lines(stream))
    assert [len(line) for line in lines] == [MAX_LINE_BYTES, 4, MAX_LINE_BYTES, 4]
    assert lines[1] == b"next" and lines[3] == b"last"
