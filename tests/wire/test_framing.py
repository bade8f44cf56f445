"""
No verdict is IDENTICAL where h11 refuses a request or reads other content: requests of every framing, mutated at random.

The words are those of framing, and so are the bytes that are put in: mutations of anything else are found out by the verdict.
"""

from __future__ import annotations

import random

from collections import Counter

import pytest

from framing import as_h11_reads
from wirewitness import Verdict
from wirewitness.core.payload import freeze
from wirewitness.core.settlement import judge
from wirewitness.dispatch import Dispatch
from wirewitness.wire.recorder import Recorder


PAYLOADS = [
    b"abc",
    b"",
    b"0",
    b"3\r\nabc\r\n0\r\n\r\n",
    b'{"a": 1}',
    b"abcabcabcabcabcabc",
    b"\r\n",
    b"A: 1\r\n\r\n",
    b"x" * 300,
]
LINES = [
    b"Host: h", b"host:h", b"Host: i", b"Content-Length: 3", b"Content-Length: %d", b"content-length:%d", b"Content-Length: 0%d",
    b"Content-Length: +%d", b"Content-Length: %d, %d", b"Content-Length: %d\x0b", b"Content-Length : %d", b"Content-Length:\r\n %d",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding:", b"X: 1", b"X: Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Expect: 100-continue", b"Connection: close",
]  # fmt: skip
STARTS = [
    b"POST / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"PUT /a?b HTTP/1.1",
    b"POST / HTTP/1.0",
    b"POST http://h/ HTTP/1.1",
]
PUT_IN = [
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\x00",
    b"\x0b",
    b"\x0c",
    b"\xa0",
    b";",
    b",",
    b":",
    b"0",
    b"3",
    b"+",
    b"_",
    b"x",
    b"\r\n\r\n",
]


def chunked(chance, payload):
    sent, at = b"", 0
    while at < len(payload):
        size = chance.randint(1, len(payload) - at)
        extension = chance.choice([b"", b"", b"", b";a=1", b" ", b"\t", b";", b" ;a", b';a="\r\n"'])
        spelled = chance.choice([b"%x", b"%x", b"%X", b"0%x", b"%d", b"+%x", b"0x%x"]) % size
        sent += spelled + extension + b"\r\n" + payload[at : at + size] + b"\r\n"
        at += size
    end = chance.choice([b"0", b"0", b"0", b"00", b"0;a", b"-0", b""])
    trailer = chance.choice([b"", b"", b"", b"A: 1\r\n", b"Content-Length: 3\r\n", b"A : 1\r\n", b" x\r\n"])
    return sent + end + b"\r\n" + trailer + b"\r\n"


def request(chance, payload):
    """A request with that payload: mostly a good one, and then with up to three changes."""
    in_chunks = chance.random() < 0.5
    lines = [chance.choice(STARTS), b"Host: h", b"Transfer-Encoding: chunked" if in_chunks else b"Content-Length: %d"]
    for _ in range(chance.choice([0, 0, 1, 2])):
        lines.insert(chance.randint(1, len(lines)), chance.choice(LINES))
    if chance.random() < 0.1:
        del lines[chance.randrange(1, len(lines))]
    head = b"\r\n".join(line.replace(b"%d", b"%d" % len(payload)) for line in lines)
    sent = bytearray(head + b"\r\n\r\n" + (chunked(chance, payload) if in_chunks else payload))
    for _ in range(chance.choice([0, 0, 0, 1, 1, 2, 3])):
        at = chance.randrange(len(sent))
        match chance.randrange(4):
            case 0:
                sent[at] ^= 1 << chance.randrange(8)
            case 1:
                sent[at:at] = chance.choice(PUT_IN)
            case 2:
                del sent[at : at + chance.choice([1, 1, 2, 5])]
            case 3:
                sent[at:at] = sent[max(0, at - chance.randint(1, 12)) : at]
    return bytes(sent)


def as_judged(chance, payload, sent):
    recorder = Recorder(Dispatch("d", None), scheme="http", host="h", port=80, method="POST", target="/")
    cuts = sorted(chance.randrange(len(sent) + 1) for _ in range(chance.choice([0, 1, 3])))
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        recorder.sent(sent[start:end])
    recorder.answered(204, None)
    return judge(payload, [recorder.exchange(0)]).verdict


def judged(inputs, seed):
    """How many of so many requests were judged how, by whether h11 reads the payload."""
    chance, found = random.Random(seed), Counter()
    for _ in range(inputs):
        body = chance.choice(PAYLOADS)
        sent = request(chance, body)
        read = as_h11_reads(sent)
        verdict = as_judged(chance, freeze(body), sent)
        assert verdict is not Verdict.IDENTICAL or read == body, sent
        found["identical" if verdict is Verdict.IDENTICAL else "other", "refused" if read is None else "read"] += 1
    return found


def of_some_use(found, inputs):
    # Many that are good, and many that h11 refuses: else nothing would be tried.
    return found["identical", "read"] > inputs / 10 and found["other", "refused"] > inputs / 10


def test_no_request_that_h11_refuses_or_reads_otherwise_is_identical():
    assert of_some_use(judged(3000, seed=1), 3000)


@pytest.mark.soak
@pytest.mark.slow("300,000 requests")
@pytest.mark.timeout(900)
def test_none_of_very_many_requests_that_h11_refuses_or_reads_otherwise_is_identical():
    assert of_some_use(judged(300_000, seed=2), 300_000)
