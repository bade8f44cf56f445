"""
One request, recorded while it goes out.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from wirewitness._clock import Clock, plausible
from wirewitness._guard import fail_open
from wirewitness.core.exchange import Address, Exchange, address_of, normal_address, resolve, without_user_info
from wirewitness.core.http1 import Content, Head, parse_head, read_content, split_head
from wirewitness.core.outcome import Reason, error_type, reason_of_error
from wirewitness.core.payload import QUERY_METHODS, digest_from_header
from wirewitness.dispatch import CURRENT, Dispatch, current
from wirewitness.evidence import EVIDENCE


MOST_RECORDED = 64 << 20
"""Bytes of one request that are kept for the verdict at most; a larger one is ``UNOBSERVED``."""

# A body may hold a payload in a larger envelope, compressed or escaped. Past this it's another matter, such as an upload.
_MOST_PER_PAYLOAD_BYTE: Final = 64
LEAST_RECORDED = 4 << 20

_FINAL: Final = 200
_REDIRECTS: Final = range(300, 400)  # RFC 9110 section 15.4

RECEIVED_DIGEST_FIELD = "Wirewitness-Received-Digest"
"""Response field in which a receiver may report the SHA-256 of the content it got, in RFC 9530's form."""


UNKNOWN_METHOD: Final = "_OTHER"
"""OpenTelemetry's ``http.request.method`` where the method isn't known."""


class Server(NamedTuple):
    """
    The server that a request is for, behind any proxy.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Its name or address.
        port: Its port.
    """

    scheme: str
    host: str
    port: int


def nobody_waits() -> bool:
    """
    Whether no request can be of interest: no dispatch runs in this context, and none waits for evidence. A tap asks this
    first where an idle one has to cost next to nothing.
    """
    return CURRENT.get() is None and not EVIDENCE.by_body


@fail_open("tap")
def begin(server: Server, method: str, target: str) -> Recorder | None:
    """
    Record a request that begins now, in this context.

    Args:
        server: Whom it is for.
        method: What the library was asked to send, until the bytes themselves tell.
        target: The same for the request target.

    Returns:
        None if nobody is interested in it.
    """
    if nobody_waits():
        return None
    dispatch = current()
    if dispatch is not None and dispatch.owner.ignores_requests(dispatch):
        return None
    recorder = Recorder(dispatch, **server._asdict(), method=method, target=target)
    return None if dispatch is None and recorder.idle else recorder


@fail_open("tap")
def connect_failed(server: Server, error: BaseException) -> None:
    """
    Count an attempt of the current dispatch that ended before its request began: no connection, no TLS, no proxy.

    Args:
        server: Whom it was for.
        error: What it failed with.
    """
    dispatch = current()
    if dispatch is None or dispatch.owner.ignores_requests(dispatch):
        return
    recorder = Recorder(dispatch, **server._asdict(), method=dispatch.method or UNKNOWN_METHOD, target="")
    recorder.failed(error)
    recorder.abandoned()


class Recorder:
    """
    Collects what is handed to a socket for one request, and says whose it is.

    A tap calls, in this order: :meth:`sent` for every piece, :meth:`claim` once all has been sent, and then either
    :meth:`answered`, or :meth:`failed` and :meth:`abandoned`. None of these raises, whatever goes wrong in here. The
    request is one thread's at a time, and so is this.

    Args:
        dispatch: The dispatch in whose context the request began, or None.
        scheme: ``http`` or ``https``.
        host: The server asked.
        port: Its port.
        method: What the library was asked to send, until the bytes themselves tell.
        target: The same for the request target.
    """

    __slots__ = (
        "_clock",
        "_content",
        "_dispatches",
        "_duration",
        "_embeds",
        "_error",
        "_head",
        "_host",
        "_limit",
        "_location",
        "_method",
        "_pieces",
        "_port",
        "_received_digest",
        "_recorded",
        "_retry_after",
        "_scheme",
        "_started_ns",
        "_status",
        "_target",
        "_unseen",
        "inside",
        "over",
    )

    def __init__(  # noqa: PLR0913 -- what a request line and a connection are made of
        self, dispatch: Dispatch | None, *, scheme: str, host: str, port: int, method: str, target: str
    ) -> None:
        self._scheme, self._host, self._port = scheme, without_user_info(host.lower()), port
        self._method, self._target = method, target
        self._embeds: frozenset[bytes] = frozenset()
        self._pieces: list[bytes] = []
        self._recorded = 0
        self._unseen = False
        self._head: Head | None = None
        self._content: Content | None = None
        self._status: int | None = None
        self._location: str | None = None
        self._received_digest: bytes | None = None
        self._retry_after: str | None = None
        self._error: tuple[str, Reason] | None = None
        self.over: bool = False
        self.inside: bool = False
        self._duration = 0.0
        self._started_ns = Clock.wall_ns()
        self._clock = Clock.perf_counter()
        # Most requests are smaller than what is recorded in any case. Only of a larger one the limit is worked out.
        self._limit = LEAST_RECORDED
        if dispatch is not None:
            self._dispatches = [dispatch]
            dispatch.attach(self)
            return
        self._dispatches = EVIDENCE.following(self._address())
        for each in self._dispatches:
            each.attach(self)

    @property
    def idle(self) -> bool:
        """Whether nobody is interested in this request: it need not be recorded."""
        return not self._dispatches and not EVIDENCE.most_recorded(self._address())

    def _most_recorded(self) -> int:
        own = sum([LEAST_RECORDED + _MOST_PER_PAYLOAD_BYTE * len(each.body) for each in self._dispatches])
        return min(MOST_RECORDED, max(own, EVIDENCE.most_recorded(self._address())))

    @fail_open("tap")
    def sent(self, piece: Any) -> None:
        """
        The socket has taken these bytes.
        """
        self._content = None
        if self._unseen:
            return
        try:
            view = memoryview(piece)
        except TypeError:
            # A file or an iterator given to send() itself; it's consumed by now.
            self._unseen = True
            return
        self._recorded += view.nbytes
        if self._recorded > self._limit:
            self._limit = self._most_recorded()
        if self._recorded > self._limit:
            self._unseen = True
            self._pieces.clear()
        else:
            self._pieces.append(piece if type(piece) is bytes else bytes(view))

    @fail_open("tap")
    def unseen(self) -> None:
        """
        What was sent can't be known, such as how much of it left.
        """
        self._content = None
        self._unseen = True
        self._pieces.clear()

    @fail_open("tap")
    def claim(self) -> None:
        """
        Find out whose payload the content is, or in a GET the query, now that it has been sent.
        """
        carried, in_query = self._carried()
        if carried and not (self._dispatches and carried == self._dispatches[0].body):
            self._reassign(carried, in_query=in_query)

    def _carried(self) -> tuple[bytes, bool]:
        body = self._body()
        if body == b"" and self._head is not None and self._head.method in QUERY_METHODS:
            return self._head.target.partition("?")[2].encode("latin-1"), True
        return body or b"", False

    def _reassign(self, carried: bytes, *, in_query: bool) -> None:
        owners, self._embeds = EVIDENCE.match(carried, self._address(), in_query=in_query)
        if not owners and not EVIDENCE.was_given_up(carried):
            return
        unknown = [dispatch for dispatch in self._dispatches if dispatch.payload is None]
        for dispatch in self._dispatches:
            if dispatch not in owners and dispatch not in unknown:
                dispatch.detach(self)
        already = set(self._dispatches)
        for dispatch in owners:
            if dispatch not in already:
                dispatch.attach(self)
                dispatch.owner.recognised(dispatch)
        self._dispatches = owners or unknown

    @fail_open("tap")
    def answered(
        self,
        status: int,
        received_digest: str | None = None,
        location: str | None = None,
        retry_after: str | None = None,
    ) -> None:
        """
        A status line has come back. After an interim one (1xx) another may follow, which counts.
        """
        self._status = status
        self._retry_after = retry_after
        self._location = location
        self._received_digest = digest_from_header(received_digest) if received_digest else None
        self._end()
        if location and status in _REDIRECTS:
            self._expect_to_be_followed(location)

    def _expect_to_be_followed(self, location: str) -> None:
        late = [dispatch for dispatch in self._dispatches if not dispatch.open and dispatch.settlement is None]
        to = resolve(self._address(), location)
        if late and to is not None:
            EVIDENCE.redirected(late, to)

    @fail_open("tap")
    def failed(self, error: BaseException) -> None:
        """
        Sending or receiving raised. A response may still follow: servers answer early, and close.
        """
        self._error = (error_type(error), reason_of_error(error))
        self._duration = plausible(Clock.perf_counter() - self._clock)

    @fail_open("tap")
    def abandoned(self) -> None:
        """
        Nothing more will come on this connection for this request.
        """
        if not self.over:
            self._end()

    def _end(self) -> None:
        if self._error is None or self._status is not None:
            self._duration = plausible(Clock.perf_counter() - self._clock)
        self.over = True
        for dispatch in self._dispatches:
            if not dispatch.open and dispatch.settlement is None:
                dispatch.owner.reconsider(dispatch)

    def exchange(self, resend_count: int) -> Exchange:
        """
        What is known by now.
        """
        content, head = self._read(), self._head
        (scheme, host, port, path), query = self._asked()
        failed = self._error if self._status is None or self._status < _FINAL else None
        return Exchange(
            method=head.method if head else self._method,
            scheme=scheme,
            host=host,
            port=port,
            path=path,
            query=query,
            body=None if self._unseen else content.body,
            content_encoding=head.content_encoding if head else "",
            complete=content.complete or self._unseen,
            clear=content.clear,
            truncated=content.truncated,
            status=self._status,
            location=resolve(self._address(), self._location) if self._location else None,
            retry_after=self._retry_after,
            received_digest=self._received_digest,
            error_type=failed[0] if failed else None,
            failure=failed[1] if failed else None,
            started_ns=self._started_ns,
            duration=self._duration,
            resend_count=resend_count,
            embeds=self._embeds,
        )

    def _address(self) -> Address:
        return normal_address(*self._asked()[0])

    def _asked(self) -> tuple[Address, str]:
        target = self._head.target if self._head else self._target
        asked, _, query = target.partition("?")
        return _absolute(asked) or (self._scheme, self._host, self._port, asked), query

    def _body(self) -> bytes | None:
        content = self._read()
        return None if self._unseen or not content.complete else content.body

    def _read(self) -> Content:
        if self._content is None:
            self._content = self._parse()
        return self._content

    def _parse(self) -> Content:
        # The head is the first piece, by itself, in every library seen; bytes that begin otherwise are joined first.
        pieces = self._pieces
        parts = split_head(pieces[0]) if pieces else None
        rest = pieces[1:]
        if parts is None:
            parts, rest = split_head(b"".join(pieces)), []
        if parts is None:
            return Content(b"", complete=False, truncated=False)
        try:
            self._head = parse_head(parts[0])
        except ValueError:  # whatever it is that was sent, it's no HTTP/1.1
            self._unseen = True
            return Content(b"", complete=False, truncated=False)
        body = rest[0] if len(rest) == 1 and not parts[1] else b"".join((parts[1], *rest))
        return read_content(self._head, body)


def _absolute(target: str) -> Address | None:
    # RFC 9112 section 3.2.2: to a proxy, the target is the whole URL.
    return address_of(target) if target[:8].lower().startswith(("http://", "https://")) else None
