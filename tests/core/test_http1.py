"""
Reading requests out of bytes: whatever a sender frames, a receiver's content comes out.
"""

from __future__ import annotations

import itertools
import random

import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from framing import as_h11_reads
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
        "extension": st.sampled_from([b"", b";a=1", b'; a="x"', b"  "]),
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


@pytest.mark.parametrize(
    "size",
    [b"-6", b"-1", b"+3", b"0x3", b"3_0", b"", b" ", b"g", b";a", b" 3", b"3 ;a", b"3;\n", b"0" * 20 + b"3", b"3\x0b"],
)
def test_a_chunk_size_that_is_no_hexadecimal_number_is_not_complete(size):
    content = read_content(CHUNKED, size + b"\r\nabc\r\n0\r\n\r\n")
    assert (content.complete, content.clear) == (False, False)


@pytest.mark.parametrize(
    "sent", [b"", b"3", b"3\r", b"3\r\n", b"3\r\nab", b"3\r\nabc", b"3\r\nabc\r", b"3\r\nabc\r\n", b"0\r\n"]
)
def test_chunks_that_broke_off_are_clear_and_not_complete(sent):
    content = read_content(CHUNKED, sent)
    assert (content.complete, content.clear) == (False, True)


def test_a_chunk_longer_than_its_size_is_not_complete():
    content = read_content(CHUNKED, b"3\r\nabcXX0\r\n\r\n")
    assert (content.complete, content.clear) == (False, False)


@given(st.binary(), st.binary())
def test_a_content_length_splits_content_from_what_follows(body, more):
    assert read_content(sized(len(body)), body + more) == Content(body, complete=True, truncated=bool(more))


@given(st.binary(), st.integers(1, 99))
def test_less_than_the_content_length_is_not_complete(body, missing):
    assert read_content(sized(len(body) + missing), body) == Content(body, complete=False, truncated=False)


def test_without_framing_there_is_no_content():
    assert read_content(sized(None), b"") == Content(b"", complete=True, truncated=False)
    assert read_content(sized(None), b"abc") == Content(b"", complete=True, truncated=True)


@pytest.mark.parametrize(
    "length", ["abc", "-5", "+5", "5_0", "5, 5", "", "5\x0b", "5\xa0", "\u0665", "9" * 21, "9" * 5000]
)
def test_content_under_a_length_that_is_no_number_is_not_complete(length):
    head = parse_head(f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}".encode())
    assert read_content(head, b"abcdefgh") == Content(b"abcdefgh", complete=False, truncated=False, clear=False)


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
    head = parse_head(b"PUT / HTTP/1.1\r\nHost: h\r\nCONTENT-LENGTH:7\r\ncontent-encoding:  GZip ")
    assert (head.content_length, head.content_encoding) == (7, "gzip")


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"\t CHUNKED \t", b""])
def test_content_is_chunked_where_that_is_the_only_coding(value):
    head = parse_head(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: " + value)
    assert (head.chunked, head.clear) == ((True, True) if value else (False, False))


FRAMED_ODDLY = [
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Content-Length: 3\r\nContent-Length: 4",
    b"Content-Length: 3\r\nContent-Length: 3",
    b"Content-Length: 3\x0b",
    b"Content-Length: \x0c3",
    b"Content-Length : 3",
    b"Content-Length: 3\r\n ",
    b" Content-Length: 3",
    b"Content-Length\x00: 3",
    b"A: \x00\r\nContent-Length: 3",
    b"A: 1\nContent-Length: 3",
    b"A: 1\rContent-Length: 3\r\nContent-Length: 3",
    b"Content-Length: 3\r\nno field",
    b"Content-Length: 3\r\n: nameless",
    b"Content-Length: 3\r\nHost: other",
]


@pytest.mark.parametrize("fields", FRAMED_ODDLY)
def test_what_is_framed_oddly_is_never_complete(fields):
    for body in (b"abc", b"3\r\nabc\r\n0\r\n\r\n"):
        head = parse_head(b"POST / HTTP/1.1\r\nHost: h\r\n" + fields)
        assert not read_content(head, body).complete


@pytest.mark.parametrize(
    "start",
    [
        b"POST / HTTP/1.1",
        b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked",
        b"POST / HTTP/2.0\r\nHost: h",
        b"POST / http/1.1\r\nHost: h",
        b"POST /a b HTTP/1.1\r\nHost: h",
        b"PO(T / HTTP/1.1\r\nHost: h",
        b"POST /\xe9 HTTP/1.1\r\nHost: h",
        b"POST  / HTTP/1.1\r\nHost: h",
    ],
)
def test_content_of_a_request_that_must_be_refused_is_never_complete(start):
    assert not read_content(parse_head(start + b"\r\nContent-Length: 0"), b"").complete


def test_http_1_0_needs_no_host():
    assert parse_head(b"POST / HTTP/1.0\r\nContent-Length: 3").clear


@pytest.mark.parametrize(
    "trailer", [b"Content-Length: 3\r\n", b"A: 1\r\nHost: h\r\n", b"A 1\r\n", b"A:\r\n b\r\n", b"A: 1\n"]
)
def test_chunks_with_an_odd_trailer_are_not_complete(trailer):
    assert not read_content(CHUNKED, b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n").complete


# Against h11: words of framing, put together at random. Where h11 refuses a request or reads other content, what is read
# here must not count as complete.

NAMES = [
    b"Content-Length",
    b"content-length",
    b"Transfer-Encoding",
    b"transfer-encoding",
    b"Host",
    b"X",
    b"Content-Length ",
]
VALUES = [
    b"3", b"03", b"+3", b"-3", b"3.0", b"0x3", b"3, 3", b"3,4", b"3 3", b"3\x0b", b"\x0c3", b"\xa03", b"", b"0", b"18", b"9" * 25,
    b"chunked", b"Chunked", b"xchunked", b"identity", b"chunked;q=1", b"chunked, chunked", b"gzip, chunked", b"chunked,",
    b'"chunked"', b"chunked\x00", b"\tchunked\t", b"chun ked", b"h", b"h:1",
]  # fmt: skip
BETWEEN = [b": ", b":", b":\t", b" : ", b":\r\n ", b":\n\t", b":\x0b"]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\x00\r\n"]
STARTS = [
    b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: h\r\n", b"POST / HTTP/1.1\r\nHost: h\r\n",
    b"POST / HTTP/1.0\r\n", b"POST / HTTP/1.1\n", b"POST  / HTTP/1.1\r\n", b"\r\nPOST / HTTP/1.1\r\nHost: h\r\n", b"P@ST / HTTP/1.1\r\n",
]  # fmt: skip
BODIES = [
    b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b" 3\r\nabc\r\n0\r\n\r\n", b"3 ;a\r\nabc\r\n0\r\n\r\n",
    b"3;a\r\nabc\r\n0\r\n\r\n", b"3;a\nb\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n",
    b"3\r\nabc\r\n0\r\nA: 1\r\n\r\n", b"3\r\nabc\r\n0\r\nA : 1\r\n\r\n", b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n", b"3\r\nabc\r\n00\r\n\r\n",
    b"3\r\nabc\r\n0\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\nmore", b"abcabcabcabcabcabc", b"",
]  # fmt: skip


@st.composite
def requests_of_framing_words(draw):
    fields = draw(st.lists(st.tuples(*map(st.sampled_from, (NAMES, BETWEEN, VALUES, ENDS))), max_size=3))
    head = draw(st.sampled_from(STARTS)) + b"".join(itertools.chain.from_iterable(fields))
    return head + b"\r\n" + draw(st.sampled_from(BODIES))


def as_read_here(sent):
    parts = split_head(sent)
    if parts is None:
        return None
    try:
        content = read_content(parse_head(parts[0]), parts[1])
    except ValueError:
        return None
    return content.body if content.complete else None


def agrees_with_h11(sent):
    here = as_read_here(sent)
    assert here is None or here == as_h11_reads(sent)


@given(requests_of_framing_words())
@settings(max_examples=500)
def test_no_content_is_complete_that_h11_refuses_or_reads_otherwise(sent):
    agrees_with_h11(sent)


@pytest.mark.soak
@pytest.mark.slow("160,000 requests")
def test_no_content_is_complete_that_h11_refuses_in_every_request_of_two_framing_words():
    fields = [b"".join(words) for words in itertools.product(NAMES, BETWEEN[:5], VALUES, ENDS[2:6])]
    random.Random(1).shuffle(fields)
    for number, (one, other) in enumerate(itertools.product(fields[:400], fields[:400])):
        start, body = STARTS[number % len(STARTS)], BODIES[number // 7 % len(BODIES)]
        agrees_with_h11(start + one + other + b"\r\n" + body)


def test_fields_of_one_name_are_one_list():
    head = parse_head(b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nA: 1\r\nContent-Encoding: deflate")
    assert head.content_encoding == "gzip, deflate"


@pytest.mark.parametrize("head", [b"", b"POST", b"POST /"])
def test_a_start_line_without_three_parts_is_an_error(head):
    with pytest.raises(ValueError, match="unpack"):
        parse_head(head)
