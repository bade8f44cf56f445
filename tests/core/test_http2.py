from __future__ import annotations

import h2.config
import h2.connection
import pytest

from hypothesis import given
from hypothesis import strategies as st

from wirewitness.core.http2 import PREFACE, StreamPart, stream_parts


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


HEAD = [(":method", "POST"), (":authority", "a"), (":scheme", "http"), (":path", "/")]


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=64), st.none() | st.integers(0, 9)), max_size=12))
def test_what_h2_writes_is_told_apart_by_streams(pieces):
    connection = h2.connection.H2Connection(h2.config.H2Configuration())
    connection.initiate_connection()
    for number in range(3):
        connection.send_headers(2 * number + 1, HEAD)
    for number, content, padding in pieces:
        connection.send_data(2 * number + 1, content, pad_length=padding)
    for number in range(3):
        connection.end_stream(2 * number + 1)
    parts = stream_parts(connection.data_to_send())
    for number in range(3):
        own = [part for part in parts if part.stream == 2 * number + 1]
        assert own[0].head
        assert [part.last for part in own] == [False] * (len(own) - 1) + [True]
        wanted = b"".join(content for stream, content, _ in pieces if stream == number)
        assert b"".join(part.content for part in own) == wanted


def test_a_head_without_content_ends_its_stream():
    assert stream_parts(frame(1, 5, 3, b"fields")) == [StreamPart(3, head=True, content=b"", last=True)]


def test_other_frames_and_the_reserved_bit_tell_nothing():
    written = PREFACE + frame(4, 0, 0) + frame(8, 0, 1, b"\0\0\0\1") + frame(0, 0, (1 << 31) + 1, b"x")
    assert stream_parts(written) == [StreamPart(1, head=False, content=b"x", last=False)]
    assert stream_parts(b"") == []


@pytest.mark.parametrize(
    "written",
    [
        b"POST / HTTP/1.1\r\n\r\n",
        frame(0, 0, 1, b"abc")[:-1],
        frame(0, 0, 1)[:5],
        frame(0, 8, 1),
        frame(0, 8, 1, b"\3ab"),
    ],
    ids=["http1", "short", "shorter", "no_padding", "too_much_padding"],
)
def test_what_is_not_whole_frames_is_an_error(written):
    with pytest.raises(ValueError, match="frame"):
        stream_parts(written)


@given(st.binary(max_size=200))
def test_anything_is_frames_or_an_error(written):
    try:
        parts = stream_parts(written)
    except ValueError:
        return
    assert sum(len(part.content) for part in parts) <= len(written)
