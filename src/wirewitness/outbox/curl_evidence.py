"""
What is known of a transfer once libcurl is done with it, and what that says of the message. Nothing here needs libcurl.
"""

from __future__ import annotations

import errno
import re

from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from wirewitness.core.exchange import Address, Exchange, Origin, address_of
from wirewitness.core.http1 import END_OF_HEAD, Content, parse_head, read_content, split_head
from wirewitness.core.outcome import Outcome, Reason
from wirewitness.core.payload import digest_from_header
from wirewitness.core.settlement import Settlement, judge
from wirewitness.core.verdict import Evidence, Verdict
from wirewitness.dispatch import Dispatch
from wirewitness.outbox.curl_request import content_encoding_of
from wirewitness.outbox.message import Message
from wirewitness.outbox.sender import Attempt
from wirewitness.wire.recorder import RECEIVED_DIGEST_FIELD


NAME: Final = "CurlSender"

DELIVERED: Final = Settlement(Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE)
"""What nearly every message comes to."""

UNSENDABLE: Final = Settlement(Outcome.DROPPED, Verdict.UNOBSERVED, Evidence.CALL, Reason.UNSENDABLE)
BROKEN: Final = Settlement(
    Outcome.FAILED, Verdict.UNOBSERVED, Evidence.CALL, Reason.ERROR, error_type="wirewitness.CurlSender"
)
"""The sender's thread broke down."""

FAILURES: Final = MappingProxyType(
    {
        5: ("COULDNT_RESOLVE_PROXY", Reason.PROXY),
        6: ("COULDNT_RESOLVE_HOST", Reason.DNS),
        7: ("COULDNT_CONNECT", Reason.REFUSED),
        18: ("PARTIAL_FILE", Reason.RESET),
        28: ("OPERATION_TIMEDOUT", Reason.TIMEOUT),
        35: ("SSL_CONNECT_ERROR", Reason.TLS),
        42: ("ABORTED_BY_CALLBACK", Reason.RESET),  # where a connection was dead: see Transfer
        52: ("GOT_NOTHING", Reason.RESET),
        55: ("SEND_ERROR", Reason.RESET),
        56: ("RECV_ERROR", Reason.RESET),
        58: ("SSL_CERTPROBLEM", Reason.TLS),
        59: ("SSL_CIPHER", Reason.TLS),
        60: ("PEER_FAILED_VERIFICATION", Reason.TLS),
        65: ("SEND_FAIL_REWIND", Reason.RESET),  # the same
        77: ("SSL_CACERT_BADFILE", Reason.TLS),
        80: ("SSL_SHUTDOWN_FAILED", Reason.TLS),
        83: ("SSL_ISSUER_ERROR", Reason.TLS),
        90: ("SSL_PINNEDPUBKEYNOTMATCH", Reason.TLS),
        91: ("SSL_INVALIDCERTSTATUS", Reason.TLS),
        97: ("PROXY", Reason.PROXY),
        98: ("SSL_CLIENTCERT", Reason.TLS),
    }
)
"""libcurl-errors(3): the codes that say more than that it failed."""

_COULDNT_CONNECT: Final = 7
_HANDSHAKE: Final = 35
_FIRST_FINAL: Final = 200


class Transcript(NamedTuple):
    """
    The very bytes of a transfer.

    Attributes:
        head: What went out as heads of requests; a proxy's CONNECT comes first.
        content: What went out behind the head.
        received: Heads of responses.
    """

    head: bytes
    content: bytes
    received: bytes

    def __repr__(self) -> str:
        return f"<Transcript of {len(self.head)} + {len(self.content)} bytes>"


class Transferred(NamedTuple):
    """
    What libcurl says of a transfer.

    Attributes:
        url: What was asked for.
        code: libcurl's error, 0 for none.
        errno: The system's.
        proxied: Whether a proxy stood between.
        tunnel: What the proxy answered to a CONNECT; 0 for nothing.
        status: The last status code; 0 for none.
        uploaded: Bytes of content that it handed over.
        asked: Whether the request itself was begun.
        duration: Seconds.
        redirect: Where the response points.
        retry_after: The response's ``Retry-After`` in seconds, of a date too; 0 for none.
        transcript: The very bytes, if they were recorded.
    """

    url: bytes
    code: int
    errno: int
    proxied: bool
    tunnel: int
    status: int
    uploaded: int
    asked: bool
    duration: float
    redirect: str | None
    retry_after: int
    transcript: Transcript | None

    def __repr__(self) -> str:
        return f"<Transferred {self.uploaded} bytes, status {self.status}, code {self.code}>"

    @property
    def answer(self) -> int | None:
        """The status code that is no interim one, or None."""
        return self.status if self.status >= _FIRST_FINAL else None


class TransferRecord(Dispatch):
    """
    A dispatch that is over, and that nobody waits for.
    """

    def __init__(self, message: Message) -> None:
        super().__init__(NAME, self, method=message.method, url=message.url, payload=message.payload)
        self.open = False

    def reconsider(self, dispatch: Dispatch) -> None:
        """Nothing to be done."""

    def recognised(self, dispatch: Dispatch) -> None:
        """Nothing to be done."""

    def give_up(self, dispatch: Dispatch, reason: Reason) -> None:
        """Nothing to be done."""

    def ignores_requests(self, dispatch: Dispatch) -> bool:  # noqa: ARG002 -- the protocol's
        """No request is made for it."""
        return True


def without_exchange(message: Message, settlement: Settlement, ended_ns: int) -> Attempt:
    """
    An attempt in which no request was made, or none that is known.
    """
    record = TransferRecord(message)
    record.end(settlement, ())
    return Attempt(message, settlement, 0, 0.0, ended_ns, dispatch=record)


def attempt_of(
    message: Message, told: Transferred, ended_ns: int, receivers: frozenset[Origin] = frozenset()
) -> Attempt:
    """
    Judge a transfer, and keep its record.

    Args:
        message: What was sent.
        told: What libcurl told.
        ended_ns: When it ended, Unix nanoseconds.
        receivers: Whose word on what they received is taken.
    """
    record = TransferRecord(message)
    record.started_ns = ended_ns - int(told.duration * 1e9)
    record.duration = told.duration
    exchange = exchange_of(message, told, record.started_ns)
    settlement = judge(record.payload, (exchange,), target=record.target, receivers=receivers)
    record.end(settlement, (exchange,))
    return Attempt(
        message, settlement, 1, told.duration, ended_ns, exchange.status, exchange.retry_after, dispatch=record
    )


def exchange_of(message: Message, told: Transferred, started_ns: int) -> Exchange:
    """
    A transfer as an exchange: by its very bytes if they were recorded, else by libcurl's count of them.
    """
    scheme, host, port, path, query = _asked(told.url)
    content = _content(message, told)
    error_type, failure = failure_of(told) if told.code and told.answer is None else (None, None)
    return Exchange(
        method=message.method,
        scheme=scheme,
        host=host,
        port=port,
        path=path,
        query=_query_sent(told.transcript) if told.transcript and told.asked else query,
        body=content.body,
        content_encoding=content_encoding_of(message.headers),
        complete=content.complete,
        clear=content.clear,
        truncated=content.truncated,
        status=told.answer,
        location=address_of(told.redirect) if told.redirect else None,
        retry_after=str(told.retry_after) if told.retry_after else None,
        received_digest=_digest(told.transcript),
        error_type=error_type,
        failure=failure,
        started_ns=started_ns,
        duration=told.duration,
    )


def failure_of(told: Transferred) -> tuple[str, Reason]:
    """
    A failure's error type and reason.
    """
    name, reason = FAILURES.get(told.code, (str(told.code), Reason.ERROR))
    if told.proxied and (told.code == _COULDNT_CONNECT or told.tunnel // 100 not in {0, 2}):
        reason = Reason.PROXY
    elif told.code == _COULDNT_CONNECT:
        reason = {errno.ECONNREFUSED: Reason.REFUSED, errno.ETIMEDOUT: Reason.TIMEOUT}.get(told.errno, Reason.ERROR)
    elif told.code == _HANDSHAKE and told.errno == errno.ECONNRESET:
        reason = Reason.RESET
    return f"pycurl.E_{name}", reason


def _asked(url: bytes) -> tuple[str, str, int, str, str]:
    text = url.decode("ascii")
    address: Address = address_of(text) or ("", "", 0, "")
    scheme, host, port, path = address
    return scheme, host, port, path, urlsplit(text).query


def _content(message: Message, told: Transferred) -> Content:
    if told.transcript is not None and told.asked:
        return _recorded(told.transcript)
    content = message.content
    complete = told.uploaded == len(content) if content else told.asked
    return Content(content if complete else content[: told.uploaded], complete=complete, truncated=False)


def _recorded(transcript: Transcript) -> Content:
    head = _request_head(transcript.head)
    if head is None:
        return Content(b"", complete=False, truncated=False)
    return read_content(parse_head(head), transcript.content)


def _request_head(sent: bytes) -> bytes | None:
    parts = split_head(sent)
    while parts is not None and parts[0].startswith(b"CONNECT "):
        parts = split_head(parts[1])
    return None if parts is None else parts[0]


def _query_sent(transcript: Transcript) -> str:
    head = _request_head(transcript.head)
    return "" if head is None else parse_head(head).target.partition("?")[2]


_DIGEST: Final = re.compile(rb"(?im)^%s:[ \t]*([^\r\n]*)" % RECEIVED_DIGEST_FIELD.encode("ascii"))


def _digest(transcript: Transcript | None) -> bytes | None:
    if transcript is None:
        return None
    # The last response's: a proxy may have answered before.
    last = transcript.received.rstrip(b"\r\n").rpartition(END_OF_HEAD)[2]
    found = _DIGEST.search(last)
    return None if found is None else digest_from_header(found[1].decode("latin-1"))
