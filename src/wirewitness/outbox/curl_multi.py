"""
libcurl's side of :class:`~wirewitness.outbox.curl.CurlSender`: this is where pycurl is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import time

from collections import deque
from pathlib import Path
from typing import Any, Final

from requests.utils import get_environ_proxies, select_proxy

from wirewitness.core.request import Request
from wirewitness.errors import UnsupportedPayload
from wirewitness.outbox.clock import steady_ns
from wirewitness.outbox.curl_evidence import (
    BROKEN,
    DELIVERED,
    UNSENDABLE,
    Transcript,
    Transferred,
    attempt_of,
    without_exchange,
)
from wirewitness.outbox.curl_options import CurlOptions
from wirewitness.outbox.curl_request import lines_of
from wirewitness.outbox.message import Message, Origin
from wirewitness.outbox.sender import Attempt, Lane
from wirewitness.wire.recorder import MOST_RECORDED


# It has no type annotations worth the name.
pycurl: Any = importlib.import_module("pycurl")

if not hasattr(pycurl, "RETRY_AFTER"):
    _msg = f"{pycurl.version} is too old"
    raise ImportError(_msg)

POSTFIELDSIZE: Final = pycurl.POSTFIELDSIZE_LARGE
READFUNCTION: Final = pycurl.READFUNCTION
VERBOSE: Final = pycurl.VERBOSE
RESPONSE_CODE: Final = pycurl.RESPONSE_CODE
SIZE_UPLOAD: Final = pycurl.SIZE_UPLOAD_T
TOTAL_TIME: Final = pycurl.TOTAL_TIME

_FIRST_2XX: Final = 200
_LAST_2XX: Final = 299

TICK: Final = 0.004
"""Seconds after which a message that comes while others are under way is seen at the latest."""

_RECORDED: Final = frozenset({pycurl.INFOTYPE_HEADER_IN, pycurl.INFOTYPE_HEADER_OUT, pycurl.INFOTYPE_DATA_OUT})


class Transfer:
    """
    One of libcurl's handles, used for one message after another.

    libcurl repeats a request by itself where a kept-alive connection turns out to be dead, though the payload may have
    arrived. Here it can't: it reads the content from a function that can't be rewound, and a request without content is
    stopped before it's begun a second time.

    Args:
        options: How to send.
        proxies: The environment's proxies by origin, kept for all transfers.
    """

    __slots__ = (
        "_aim",
        "_asked",
        "_options",
        "_pieces",
        "_proxied",
        "_proxies",
        "_url",
        "audited",
        "curl",
        "getinfo",
        "length",
        "message",
        "setopt",
    )

    def __init__(self, options: CurlOptions, proxies: dict[Origin | None, str]) -> None:
        self.curl: Any = pycurl.Curl()
        self.setopt: Any = self.curl.setopt
        self.getinfo: Any = self.curl.getinfo
        self.message: Message | None = None
        self.length: int = 0
        self.audited: bool = False
        self._options = options
        self._proxies = proxies
        self._proxied = False
        self._aim: tuple[Any, ...] = ()
        self._url = b""
        self._asked = False
        self._pieces: list[tuple[int, bytes]] = []

    def load(self, message: Message, *, audited: bool) -> None:
        """
        Make a message ready to be sent.

        Raises:
            UnsupportedPayload: If no request can be made of it.
        """
        content = message.content
        length = len(content)
        aim = (message.request, not length)
        if aim != self._aim:
            self._aim = ()
            self._take_aim(aim[0], message.origin, with_content=length > 0)
            self._aim = aim
        if length:
            self.setopt(POSTFIELDSIZE, length)
            self.setopt(READFUNCTION, io.BytesIO(content).read)
        if audited is not self.audited:
            self.setopt(VERBOSE, audited)
            self.audited = audited
        self._asked = False
        self.length = length
        self.message = message

    def _take_aim(self, request: Request, origin: Origin | None, *, with_content: bool) -> None:
        self.curl.reset()
        self.audited = False
        self._set_always()
        # Put together from what was checked, without user info: libcurl has nothing to interpret.
        self._url = request.url.encode("ascii")
        self.setopt(pycurl.URL, self._url)
        self.setopt(pycurl.HTTPHEADER, lines_of(request))
        self._set_proxy(request, origin)
        self._set_method(request.method, with_content=with_content)

    def _set_always(self) -> None:
        options = self._options
        for option, value in _ALWAYS:
            self.setopt(option, value)
        self.setopt(pycurl.TIMEOUT_MS, max(1, round(options.total_timeout * 1000)))
        if options.timeout < options.total_timeout:
            self.setopt(pycurl.LOW_SPEED_LIMIT, 1)
            self.setopt(pycurl.LOW_SPEED_TIME, max(1, math.ceil(options.timeout)))
        self.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round(options.connect_timeout * 1000)))
        self.setopt(pycurl.DEBUGFUNCTION, self._record)
        if options.trusted is None:
            self.setopt(pycurl.SSL_VERIFYPEER, 0)
            self.setopt(pycurl.SSL_VERIFYHOST, 0)
        else:
            where = pycurl.CAPATH if Path(options.trusted).is_dir() else pycurl.CAINFO
            self.setopt(where, options.trusted)

    def _set_proxy(self, request: Request, origin: Origin | None) -> None:
        if origin not in self._proxies:
            self._proxies[origin] = select_proxy(request.url, get_environ_proxies(request.url)) or ""
        proxy = self._proxies[origin]
        self._proxied = bool(proxy)
        # Nothing said, libcurl would read the environment by rules of its own.
        self.setopt(pycurl.PROXY, proxy)
        # libcurl writes percent-encodings in upper case. To a proxy that forwards, the target is the whole URL (RFC 9112
        # section 3.2.2); through a tunnel or SOCKS it's the server's own.
        kind = proxy.partition("://")[0].lower() if "://" in proxy else "http"
        forwarded = proxy and kind in {"http", "https"} and request.destination.scheme == "http"
        self.setopt(pycurl.REQUEST_TARGET, request.url if forwarded else request.target)

    def _set_method(self, method: str, *, with_content: bool) -> None:
        if with_content or method not in {"GET", "HEAD"}:
            self.setopt(pycurl.POST, 1)
            self.setopt(POSTFIELDSIZE, 0)
        elif method == "HEAD":
            self.setopt(pycurl.NOBODY, 1)
        if method not in {"GET", "HEAD", "POST"} or (with_content and method != "POST"):
            self.setopt(pycurl.CUSTOMREQUEST, method)
        if not with_content:
            self.setopt(pycurl.PREREQFUNCTION, self._ask)

    def _ask(self, *_: object) -> int:
        again, self._asked = self._asked, True
        return int(pycurl.PREREQFUNC_ABORT if again else pycurl.PREREQFUNC_OK)

    def _record(self, kind: int, piece: bytes) -> None:
        if kind in _RECORDED:
            self._pieces.append((kind, piece))

    def unload(self) -> tuple[Message, Transcript | None]:
        """
        Be ready for another message.

        Returns:
            The message, and its very bytes if they were recorded.
        """
        message, self.message = self.message, None
        assert message is not None  # noqa: S101 -- only what was loaded is unloaded
        pieces, self._pieces = self._pieces, []
        return message, _transcript(pieces) if self.audited else None

    def end(self, code: int, ended_ns: int, *, recording: bool) -> Attempt:
        """
        What became of the message that was loaded.

        Args:
            code: libcurl's error, 0 for none.
            ended_ns: When it ended, Unix nanoseconds.
            recording: Whether the record is wanted in any case.
        """
        told = self._told(code)
        message, transcript = self.unload()
        attempt = attempt_of(message, told._replace(transcript=transcript), ended_ns, self._options.receivers)
        if attempt.settlement == DELIVERED and not recording:
            return attempt._replace(settlement=DELIVERED, dispatch=None)
        return attempt

    def _told(self, code: int) -> Transferred:
        info = self.getinfo
        uploaded = info(SIZE_UPLOAD)
        return Transferred(
            url=self._url,
            code=code,
            errno=info(pycurl.OS_ERRNO),
            proxied=self._proxied,
            tunnel=info(pycurl.HTTP_CONNECTCODE),
            status=info(RESPONSE_CODE),
            uploaded=uploaded,
            asked=uploaded > 0 if self.length else self._asked and info(pycurl.REQUEST_SIZE) > 0,
            duration=info(TOTAL_TIME),
            redirect=info(pycurl.REDIRECT_URL),
            retry_after=info(pycurl.RETRY_AFTER),
            transcript=None,
        )


_ALWAYS: Final = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.NETRC, pycurl.NETRC_IGNORED),
    (pycurl.PATH_AS_IS, 1),
    (pycurl.TCP_NODELAY, 1),
    # Answers' contents are of no interest; without this they'd go to standard output.
    (pycurl.WRITEFUNCTION, len),
    # Whoever sends more than that is not listened to: the status is known.
    (pycurl.MAXFILESIZE, 1 << 16),
)


def _transcript(pieces: list[tuple[int, bytes]]) -> Transcript:
    return Transcript(*(b"".join([piece for kind, piece in pieces if kind == wanted]) for wanted in _KINDS))


_KINDS: Final = (pycurl.INFOTYPE_HEADER_OUT, pycurl.INFOTYPE_DATA_OUT, pycurl.INFOTYPE_HEADER_IN)


class Loop:
    """
    Many transfers at once, in the thread that makes this.

    Args:
        options: How to send.
        lane: Where messages come from and go to.
    """

    def __init__(self, options: CurlOptions, lane: Lane) -> None:
        self._options = options
        self._lane = lane
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, options.connections)
        self._proxies: dict[Origin | None, str] = {}
        self._by_curl: dict[Any, Transfer] = {}
        self._free: list[Transfer] = []
        self._flying = 0
        self._claimed: deque[Message] = deque()
        self._attempts: list[Attempt] = []
        self._audit = 1.0 if options.audit else 0.0
        self._over = False

    def run(self) -> None:
        """
        Until the lane has no more, and what was taken is reported.
        """
        while not self._over or self._flying:
            room = self._options.connections - self._flying
            if room and not self._over:
                self._take(room)
            if self._flying or self._attempts:
                self._turn()

    def _take(self, room: int) -> None:
        messages = self._lane.take(room, 0.0 if self._flying else None)
        if messages is None:
            self._over = True
            return
        self._claimed.extend(messages)
        recording = self._lane.recording
        while self._claimed:
            self._begin(self._claimed[0], recording=recording)
            self._claimed.popleft()

    def _begin(self, message: Message, *, recording: bool) -> None:
        transfer = self._free.pop() if self._free else self._made()
        try:
            transfer.load(message, audited=self._audits(message) or recording)
        except (UnsupportedPayload, ValueError, pycurl.error):
            # libcurl has an opinion of its own on what can be sent, too.
            self._free.append(transfer)
            self._attempts.append(without_exchange(message, UNSENDABLE, steady_ns()))
            return
        self._multi.add_handle(transfer.curl)
        self._flying += 1

    def _audits(self, message: Message) -> bool:
        due = self._audit >= 1.0
        self._audit += self._options.audit - due
        return (due or message.attempts > 0) and len(message.body) <= MOST_RECORDED

    def _made(self) -> Transfer:
        transfer = Transfer(self._options, self._proxies)
        self._by_curl[transfer.curl] = transfer
        return transfer

    def _turn(self) -> None:
        _, running = self._multi.perform()
        if running == self._flying and not self._attempts:
            self._wait()
            return
        self._collect()
        attempts, self._attempts = self._attempts, []
        self._lane.done(attempts)

    def _wait(self) -> None:
        began = time.monotonic()
        # It knows no descriptor from 1024 on, and none while a name is being resolved: then it doesn't wait.
        if not self._multi.select(TICK) and time.monotonic() - began < TICK / 2:
            time.sleep(TICK / 4)

    def _collect(self) -> None:
        ended_ns, recording, queued = steady_ns(), self._lane.recording, 1
        while queued:
            queued, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._end(curl, 0, ended_ns, recording)
            for curl, code, _ in failed:
                self._end(curl, code, ended_ns, recording)

    def _end(self, curl: Any, code: int, ended_ns: int, recording: bool) -> None:  # noqa: FBT001 -- called for every message
        transfer = self._by_curl[curl]
        message = transfer.message
        assert message is not None  # noqa: S101 -- what ends was begun
        self._multi.remove_handle(curl)
        self._flying -= 1
        status = transfer.getinfo(RESPONSE_CODE)
        if (
            _FIRST_2XX <= status <= _LAST_2XX
            and 0 < transfer.length == transfer.getinfo(SIZE_UPLOAD)
            and not (transfer.audited or recording or message.traced)
        ):
            # Nearly every message comes this way.
            transfer.message = None
            attempt = Attempt(message, DELIVERED, 1, transfer.getinfo(TOTAL_TIME), ended_ns, status)
        else:
            attempt = transfer.end(code, ended_ns, recording=recording or message.traced)
        self._attempts.append(attempt)
        self._free.append(transfer)

    def close(self) -> None:
        """
        Report what was taken and isn't reported yet, and let go of all handles.
        """
        flying = [transfer.message for transfer in self._by_curl.values() if transfer.message is not None]
        known = {id(attempt.message) for attempt in self._attempts}
        left = {id(message): message for message in (*flying, *self._claimed) if id(message) not in known}
        try:
            for curl, transfer in self._by_curl.items():
                if transfer.message is not None:
                    with contextlib.suppress(pycurl.error):
                        self._multi.remove_handle(curl)
                curl.close()
            self._multi.close()
        finally:
            broken = [without_exchange(message, BROKEN, steady_ns()) for message in left.values()]
            if self._attempts or broken:
                self._lane.done([*self._attempts, *broken])


def run(options: CurlOptions, lane: Lane) -> None:
    """
    Carry messages from ``lane.take`` to ``lane.done`` until the former returns None.

    Args:
        options: How to send.
        lane: Where messages come from and go to.
    """
    with contextlib.closing(Loop(options, lane)) as loop:
        loop.run()
