"""
``wirewitness sink``: the recording, misbehaving endpoint alone, for clients in any language.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import stat
import sys

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from wirewitness.cli.check import Unusable
from wirewitness.core.exchange import REDACTED, redact_target


# RFC 9110 section 11, RFC 6265 section 4.2, and what services name theirs: X-Api-Key, X-Amz-Security-Token, X-Goog-Iap-Jwt.
_CREDENTIALS: Final = re.compile(
    r"auth|cookie|token|secret|passw|passphrase|credential|session|signature|key|jwt|saml|csrf|xsrf|[-_](sig|pin|otp|pwd)$"
)

if TYPE_CHECKING:
    from wirewitness.conformance import Received, Sink


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The IPv4 address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8181, show_default=True, help="0 for any that is free.")
@click.option(
    "--log", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="In place of standard output."
)
@click.option("--bodies", is_flag=True, help="Log the exact content, too, in hexadecimal digits.")
@click.option("--credentials", is_flag=True, help="Log credentials and the values of queries, too.")
@click.option("--requests", "most", type=click.IntRange(1), metavar="N", help="End after so many.")
@click.option("--exposed", is_flag=True, help="Allow an address that isn't loopback.")
def sink(  # noqa: PLR0913 -- one for every option
    host: str, port: int, log: Path | None, *, bodies: bool, credentials: bool, most: int | None, exposed: bool
) -> None:
    """
    Record what arrives as lines of JSON, and misbehave as the path or the header field X-Sink asks.

    \b
    /v1/events                204, as Optimizely's
    /status/503               that status; ?retry-after=2 adds the field
    /redirect/302/v1/events   a redirect to there
    /flaky/2/503              that status twice, then 204
    /slow/500                 204 after so many milliseconds
    /slow-read/10             reads slowly
    /reset/before, during, after   a reset before, within, behind the content
    /half-close               closed in place of an answer
    /hang-up/204              closed behind the answer, without a word
    /early/413, /close/202    answered before the content; closed behind
    /echo-digest              tells the digest of what it received
    """  # noqa: D301 -- click's mark for a paragraph that isn't wrapped
    from wirewitness.conformance import Sink  # noqa: PLC0415 -- needs another extra than the other commands

    _check_host(host, exposed=exposed)
    with contextlib.ExitStack() as stack:
        try:
            out = stack.enter_context(_opened(log)) if log is not None else sys.stdout
            endpoint = stack.enter_context(Sink(host=host, port=port))
        except OSError as error:
            where = error.filename or f"{host}:{port}"
            msg = f"can't open {where}: {error.strerror}"
            raise Unusable(msg) from error
        click.echo(f"listening on {endpoint.url}", err=True)
        with contextlib.suppress(KeyboardInterrupt), _interrupted_by_sigterm():
            _record(endpoint, out, most, bodies=bodies, credentials=credentials)


def _opened(log: Path) -> IO[str]:
    # What was sent is nobody else's to read. What the path names is looked at on the open descriptor, and never waited for.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(log, flags, 0o600)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "no regular file; without --log lines go to the standard output", str(log))
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "another user's file", str(log))
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        undo.pop_all()
    return open(descriptor, "a", encoding="utf-8")  # noqa: PTH123 -- it is open already


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_host(host: str, *, exposed: bool) -> None:
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not exposed:
        msg = f"{host} isn't loopback: anybody there could reach it; --exposed allows that"
        raise click.BadParameter(msg, param_hint="--host")


def _record(endpoint: Sink, out: IO[str], most: int | None, *, bodies: bool, credentials: bool) -> None:
    written = 0
    while most is None or written < most:
        # In steps: a signal that comes right before a wait does not end it, and is only noticed after it.
        endpoint.wait_for(written + 1, 1.0)
        for received in endpoint.requests[written:most]:
            out.write(json.dumps(line_of(received, bodies=bodies, credentials=credentials)) + "\n")
            out.flush()
            written += 1


def line_of(received: Received, *, bodies: bool, credentials: bool = False) -> dict[str, object]:
    """
    A request as a line of the log.

    Args:
        received: What arrived.
        bodies: Whether the content is to be in it.
        credentials: Whether credentials and the values of queries are.
    """
    line: dict[str, object] = {
        "method": received.method,
        "target": received.target if credentials else redact_target(received.target),
        "headers": [[name, value if credentials else _field(name, value)] for name, value in received.headers],
        "bytes": len(received.body),
        "sha256": received.digest.hex(),
        "complete": received.complete,
        "status": received.status,
        "connection": received.connection,
    }
    return {**line, "body": received.body.hex()} if bodies else line


def _field(name: str, value: str) -> str:
    if _CREDENTIALS.search(name):
        return REDACTED
    # A Referer, a Link or an X-Sink can hold what a target can. Others have parameters, too: Content-Type, Accept.
    return redact_target(value) if value.startswith("/") or "://" in value or "?" in value else value
