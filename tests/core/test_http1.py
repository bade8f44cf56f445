"""
Reading requests out of bytes: whatever a sender frames, a receiver's content comes out.
"""

from __future__ import annotations

import pytest

from hypothesis import given
from hypothesis import strategies as st

from wirewitness.core.http1 import Content, Head, parse_head, read_content, split_head


CHUNKED = Head("POST", "/", None, chunked=True, content_encoding="")


def sized(length):
    return Head("POST", "/", length, chunked=False, content_encoding="")


def chunk(pieces, *, extension=b"", trailer=b"", case="x"):
    framed = b"".join(b"%s%s\r\n%s\r\n" % (format(len(p), case).encode(), extension, p) for p in pieces if p)
    return framed + b"0\r\n" + trailer + b"\r\n"


framings = st.fixed_dictionaries(
    {
        "pieces": st.lists(st.binary(max_size=40)),
        "extension": st.sampled_from([b"", b";a=1", b' ; a="x"']),
        "trailer": st.sampled_from([b"", b"Digest: x\r\n", b"A: 1\r\nB: 2\r\n"]),
        "case": st.sampled_from("xX"),
    }
)


@given(framings)
def test_dechunking_undoes_every_chunking(framing):
    assert read_content(CHUNKED, chunk(**framing)) == Content(
        b"".join(framing["pieces"]), complete=True, truncated=False
    )


@given(framings, st.data())
def test_a_truncated_chunking_is_never_complete(framing, data):
    framed = chunk(**framing)
    cut = data.draw(st.integers(0, len(framed) - 1))
    content = read_content(CHUNKED, framed[:cut])
    assert not content.complete
    assert b"".join(framing["pieces"]).startswith(content.body)


@given(framings, st.binary(min_size=1))
def test_what_stands_behind_the_last_chunk_is_not_content(framing, more):
    assert read_content(CHUNKED, chunk(**framing) + more) == Content(
        b"".join(framing["pieces"]), complete=True, truncated=True
    )


@given(st.binary())
def test_any_bytes_can_be_dechunked(sent):
    read_content(CHUNKED, sent)


@pytest.mark.parametrize("size", [b"-6", b"-1", b"+3", b"0x3", b"3_0", b"", b" ", b"g", b";a"])
def test_a_chunk_size_that_is_no_hexadecimal_number_is_not_complete(size):
    assert not read_content(CHUNKED, size + b"\r\nabc\r\n0\r\n\r\n").complete


def test_a_chunk_longer_than_its_size_is_not_complete():
    assert not read_content(CHUNKED, b"3\r\nabcXX0\r\n\r\n").complete


@given(st.binary(), st.binary())
def test_a_content_length_splits_content_from_what_follows(body, more):
    assert read_content(sized(len(body)), body + more) == Content(body, complete=True, truncated=bool(more))


@given(st.binary(), st.integers(1, 99))
def test_less_than_the_content_length_is_not_complete(body, missing):
    assert read_content(sized(len(body) + missing), body) == Content(body, complete=False, truncated=False)


def test_without_framing_there_is_no_content():
    assert read_content(sized(None), b"") == Content(b"", complete=True, truncated=False)
    assert read_content(sized(None), b"abc") == Content(b"", complete=True, truncated=True)


@pytest.mark.parametrize("length", ["abc", "-5", "+5", "5_0", "5, 5", ""])
def test_content_under_a_length_that_is_no_number_is_not_complete(length):
    head = parse_head(f"POST / HTTP/1.1\r\nContent-Length: {length}".encode())
    assert read_content(head, b"abcdefgh") == Content(b"abcdefgh", complete=False, truncated=False)


def test_a_contents_repr_does_not_hold_its_body():
    assert "s3cret" not in repr(Content(b"s3cret", complete=True, truncated=False))


def test_a_head_ends_with_an_empty_line():
    assert split_head(b"POST / HTTP/1.1\r\nA: 1\r\n\r\nbody\r\n\r\n") == (b"POST / HTTP/1.1\r\nA: 1", b"body\r\n\r\n")


@pytest.mark.parametrize("sent", [b"", b"POST", b"POST / HTTP/1.1\r\nA: 1\r\n"])
def test_a_head_without_its_end_is_none(sent):
    assert split_head(sent) is None


def test_a_head_without_framing_has_none():
    assert parse_head(b"GET /a?b=1 HTTP/1.1\r\nHost: h") == Head(
        "GET", "/a?b=1", None, chunked=False, content_encoding=""
    )


def test_names_and_codings_are_read_in_any_case():
    head = parse_head(b"PUT / HTTP/1.1\r\nCONTENT-LENGTH:7\r\ncontent-encoding:  GZip ")
    assert (head.content_length, head.content_encoding) == (7, "gzip")


@pytest.mark.parametrize(("value", "chunked"), [(b"chunked", True), (b"gzip, Chunked", True), (b"gzip", False)])
def test_content_is_chunked_where_that_is_the_last_coding(value, chunked):
    assert parse_head(b"POST / HTTP/1.1\r\nTransfer-Encoding: " + value).chunked is chunked


def test_fields_of_one_name_are_one_list():
    head = parse_head(b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nA: 1\r\nContent-Encoding: deflate")
    assert head.content_encoding == "gzip, deflate"


@pytest.mark.parametrize("head", [b"", b"POST", b"POST /"])
def test_a_start_line_without_three_parts_is_an_error(head):
    with pytest.raises(ValueError, match="unpack"):
        parse_head(head)
