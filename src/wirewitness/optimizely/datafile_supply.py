"""
Where datafiles come from: the CDN, the cache file, the fallback.
"""

from __future__ import annotations

import contextlib
import os
import random
import time

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from wirewitness._guard import fail_open
from wirewitness.errors import ConfigurationError, shown
from wirewitness.optimizely.datafile_fetch import FetchAnswer, FetchDeadline, FetchFailed, fetch
from wirewitness.optimizely.datafile_file import CacheFile, Stored, UnreadableFile, open_regular
from wirewitness.optimizely.datafile_parse import Datafile, Parser, Rejected
from wirewitness.telemetry.datafile import DatafileSource, DatafileTelemetry, Fault, Fetch, Fetched


Fallback: TypeAlias = "str | bytes | os.PathLike[str] | Callable[[], str | bytes]"
"""A datafile, the path of one, or what returns one."""

OnFetch: TypeAlias = "Callable[[Fetch], object]"

_FIRST_RETRY: Final = 5.0
_MOST_DOUBLINGS: Final = 20
_random: Final = random.SystemRandom()  # a forked child has no other dice of its own


@dataclass(frozen=True)
class SupplyOptions:
    """
    How datafiles are had. :class:`wirewitness.optimizely.CachedConfigManager` documents them.
    """

    url: str = field(repr=False)
    token: str | None = field(repr=False)
    expires: float
    timeout: float
    jitter: float
    most_bytes: int
    fallback: Fallback | None = field(repr=False)
    cache_path: str | os.PathLike[str] | None
    on_fetch: OnFetch | None

    def check(self) -> None:
        """
        Raise a ConfigurationError for what can't work.
        """
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except (AttributeError, TypeError, ValueError):
            usable = False
        if not usable:
            msg = f"the datafile's URL, {shown(self.url)}, must begin with http:// or https:// and name a host"
            raise ConfigurationError(msg) from None
        for name in ("expires", "timeout", "most_bytes"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and value > 0):
                msg = f"{name}={shown(value)}: must be a number greater than 0"
                raise ConfigurationError(msg)
        jitter: object = self.jitter
        if not (isinstance(jitter, (int, float)) and 0 <= jitter < 1):
            msg = f"jitter={shown(self.jitter)}: must be a share of expires, from 0 to less than 1"
            raise ConfigurationError(msg)
        hook: object = self.on_fetch
        if hook is not None and not callable(hook):
            msg = f"on_fetch={shown(hook)}: must be a callable"
            raise ConfigurationError(msg)


@dataclass(frozen=True)
class Held:
    """
    A datafile that can be served.

    Attributes:
        datafile: It.
        source: Where it has come from.
        confirmed: When it was last known to be what the server has, Unix seconds; None if never.
        etag: What the server named it, or None.
        last_modified: Since when the server had it, or None.
    """

    datafile: Datafile = field(repr=False)
    source: DatafileSource
    confirmed: float | None = None
    etag: str | None = None
    last_modified: str | None = None


class Supply:
    """
    Gets datafiles. Used by one thread at a time; the fork-safe part is that it keeps no connection.

    Args:
        name: The config manager's name.
        options: How.
        parse: Takes what is a datafile.
        telemetry: Where it's shown.
    """

    def __init__(self, name: str, options: SupplyOptions, parse: Parser, telemetry: DatafileTelemetry) -> None:
        self._name = name
        self._options = options
        self._parse = parse
        self._telemetry = telemetry
        path = options.cache_path
        try:
            self._file = None if path is None else CacheFile(path, options.url, options.most_bytes)
        except TypeError:
            msg = f"cache_path={shown(path)}: must be a path, as a str or an os.PathLike[str]"
            raise ConfigurationError(msg) from None
        self._fallback: Held | None = None
        self._failures = 0
        self._deadline: FetchDeadline | None = None
        self._aborted = False

    def begin(self) -> Held | None:
        """
        What there is without the network.

        Raises:
            ConfigurationError: If there's a fallback that is no datafile.
        """
        fallback = self._options.fallback
        if fallback is not None and not callable(fallback):
            self._fallback = self._read_fallback(fallback)
        return self.from_file(None) or self._fallback

    def _read_fallback(self, given: str | bytes | os.PathLike[str]) -> Held:
        try:
            return Held(self._parse(_text_of(given, self._options.most_bytes)), DatafileSource.FALLBACK)
        except Rejected as rejected:
            msg = f"fallback: {rejected.fault.value}: the SDK can't work with it, and it would be found out on the day it's needed"
            raise ConfigurationError(msg) from None
        except (OSError, TypeError, ValueError) as error:
            # A str can be a datafile, whole or cut: only what can be nothing but a path is named.
            named = f"{os.fspath(given)!r}" if isinstance(given, os.PathLike) else shown(given)
            why = (error.strerror if isinstance(error, OSError) else None) or "it is no path"
            msg = f"fallback={named}: {why}; give a regular file, or a datafile itself, which begins with a brace"
            raise ConfigurationError(msg) from None

    def fresh(self, held: Held | None) -> bool:
        """
        Whether it's younger than it may grow.
        """
        return held is not None and self.age(held) < self._options.expires

    @staticmethod
    def age(held: Held) -> float:
        """
        Seconds since it was known to be what the server has: endless if it never was.
        """
        return float("inf") if held.confirmed is None else max(0.0, time.time() - held.confirmed)

    def from_file(self, held: Held | None) -> Held | None:
        """
        What the cache file holds, if that's younger than what is held.
        """
        stored = self._stored()
        if stored is None or (held is not None and held.confirmed is not None and stored.saved <= held.confirmed):
            return None
        try:
            datafile = held.datafile if held and held.datafile.text == stored.text else self._parse(stored.text)
        except Rejected:
            self._fault(Fault.FILE_READ, "Rejected", held)
            return None
        confirmed = None if stored.age() == float("inf") else stored.saved
        return Held(datafile, DatafileSource.FILE, confirmed, stored.etag, stored.last_modified)

    def _stored(self) -> Stored | None:
        try:
            return None if self._file is None else self._file.read()
        except UnreadableFile as error:
            self._fault(Fault.FILE_READ, str(error), None)
            return None

    def fetch(self, held: Held | None) -> tuple[Held | None, Fetch]:
        """
        Ask the server.

        Returns:
            What is to be served now, and what became of the fetch.
        """
        began = time.perf_counter()
        parts = urlsplit(self._options.url)
        fetching = self._telemetry.began(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        now, ended = self._fetched(held)
        done = replace(
            ended,
            duration=time.perf_counter() - began,
            source=DatafileSource.NONE if now is None else now.source,
            revision=None if now is None else now.datafile.revision,
        )
        self._telemetry.ended(fetching, done)
        self._failures = self._failures + 1 if done.outcome is Fetched.FAILED else 0
        if done.outcome is Fetched.FAILED:
            self._fault(done.fault, done.error_type, now)
        return now, done

    def _fetched(self, held: Held | None) -> tuple[Held | None, Fetch]:
        answer = None
        try:
            answer = self._ask(_conditions(held))
            now, outcome = self._take(held, answer)
        except FetchFailed as failed:
            fault, status, error_type = failed.fault, failed.status, failed.error_type
        except Rejected as rejected:
            fault, status, error_type = rejected.fault, answer and answer.status, rejected.fault.value
        else:
            self._save(now)
            return now, Fetch(self._name, outcome, 0.0, status=answer.status)
        return self._without(held), Fetch(self._name, Fetched.FAILED, 0.0, fault, status, error_type)

    def _ask(self, headers: dict[str, str]) -> FetchAnswer:
        options = self._options
        # A tenth is left for validation, or for the fallback: a first decision waits no longer than the timeout.
        seconds = 0.9 * options.timeout
        with FetchDeadline(seconds) as self._deadline:
            return fetch(
                options.url,
                headers,
                self._deadline,
                timeout=seconds,
                most_bytes=options.most_bytes,
                token=options.token,
            )

    def _take(self, held: Held | None, answer: FetchAnswer) -> tuple[Held, Fetched]:
        etag, last_modified = answer.etag, answer.last_modified
        if held is not None and _same(held, answer):
            etag, last_modified = etag or held.etag, last_modified or held.last_modified
            return Held(held.datafile, DatafileSource.CDN, time.time(), etag, last_modified), Fetched.UNCHANGED
        return Held(self._parse(answer.body), DatafileSource.CDN, time.time(), etag, last_modified), Fetched.UPDATED

    def _without(self, held: Held | None) -> Held | None:
        given = self._options.fallback
        if held is not None or self._fallback is not None or not callable(given):
            return held or self._fallback
        text = _called(given)
        try:
            self._fallback = None if text is None else Held(self._parse(text), DatafileSource.FALLBACK)
        except Rejected:
            self._fallback = None
        if self._fallback is None:
            self._fault(Fault.FALLBACK, None, None)
        return self._fallback

    def _save(self, held: Held) -> None:
        if self._file is None or held.confirmed is None:
            return
        try:
            self._file.write(Stored(held.datafile.text, held.confirmed, held.etag, held.last_modified))
        except (OSError, ValueError) as error:
            self._fault(Fault.FILE_WRITE, type(error).__qualname__, held)

    def _fault(self, fault: Fault, error_type: str | None, held: Held | None) -> None:
        if not self._aborted:
            self._telemetry.fault(fault, error_type, DatafileSource.NONE if held is None else held.source)

    def tell(self, fetch: Fetch) -> None:
        """
        Tell the application's hook.
        """
        if self._options.on_fetch is not None and not self._aborted:
            _told(self._options.on_fetch, fetch)

    def abort(self) -> None:
        """
        End a fetch that goes on: nobody is told of it.
        """
        self._aborted = True
        if self._deadline is not None:
            self._deadline.end()

    def delay(self, held: Held | None) -> float:
        """
        In how many seconds to ask again: before what is held grows too old, and soon, then ever later, while that fails.
        """
        options = self._options
        if self._failures:
            longest: float = _FIRST_RETRY * 2 ** min(self._failures - 1, _MOST_DOUBLINGS)
            return min(options.expires, longest) * _random.uniform(0.5, 1.0)
        left = options.expires - (0.0 if held is None else min(self.age(held), options.expires))
        return left * _random.uniform(1.0 - options.jitter, 1.0)


def _text_of(given: str | bytes | os.PathLike[str], most_bytes: int) -> str | bytes:
    if isinstance(given, bytes) or (isinstance(given, str) and given.lstrip("\ufeff \t\r\n")[:1] in {"{", ""}):
        return given
    with open_regular(Path(given)) as file:
        read = file.read(most_bytes + 1)
    if len(read) > most_bytes:
        raise Rejected(Fault.TOO_LARGE)
    return read


def _conditions(held: Held | None) -> dict[str, str]:
    # RFC 9110 section 13.1: with an entity tag, the time is ignored by those that know tags.
    if held is None:
        return {}
    both = {"If-None-Match": held.etag, "If-Modified-Since": held.last_modified}
    return {name: value for name, value in both.items() if value is not None}


def _same(held: Held, answer: FetchAnswer) -> bool:
    if answer.status == 304:  # noqa: PLR2004 -- Not Modified, RFC 9110 section 15.4.5
        return True
    with contextlib.suppress(UnicodeDecodeError):
        return answer.body.decode("utf-8-sig") == held.datafile.text
    return False


_called = fail_open("hook")(lambda fallback: fallback())


@fail_open("hook")
def _told(on_fetch: OnFetch, fetch: Fetch) -> None:
    on_fetch(fetch)
