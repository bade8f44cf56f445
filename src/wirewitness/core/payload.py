"""
What the caller meant to send, frozen.
"""

from __future__ import annotations

import hashlib
import io
import json

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode, urlsplit

from wirewitness.core.outcome import Reason
from wirewitness.errors import UnsupportedPayload


Encode = Callable[[Any], "bytes | str"]

# What json.dumps writes with default arguments. A circle is found by its depth: keeping a list of all containers costs.
_dumps = json.JSONEncoder(check_circular=False).encode

SMALL = 32
"""Bytes: a payload shorter than this is anybody's, such as ``{}``. Seen away from its own target it proves nothing."""

QUERY_METHODS = frozenset({"GET", "HEAD"})
"""Methods whose payload is the query: RFC 9110 section 9.3.1 gives content in them no meaning."""


@dataclass(frozen=True)
class Payload:
    """
    The bytes that the caller meant.

    Attributes:
        body: The bytes, never shown in a repr.
        in_query: Whether the bytes are a URL's query rather than a request's content.
    """

    body: bytes = field(repr=False)
    in_query: bool = False

    def __len__(self) -> int:
        return len(self.body)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the bytes, 32 bytes."""
        return hashlib.sha256(self.body).digest()


class UnreadableSource:
    """
    Stands for parameters that can't be known, because each read of them makes other ones.
    """


def repr_digest(digest: bytes) -> str:
    """
    A SHA-256 digest as RFC 9530 writes it in a header: ``sha-256=:<base64>:``.
    """
    return f"sha-256=:{b64encode(digest).decode('ascii')}:"


def digest_from_header(value: str) -> bytes | None:
    """
    The SHA-256 digest in a header field of RFC 9530's form, or None where it holds none.
    """
    _, found, rest = value.partition("sha-256=:")
    encoded, end, _ = rest.partition(":")
    try:
        digest = b64decode(encoded, validate=True) if found and end else b""
    except ValueError:
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None


def freeze(params: object, *, encode: Encode | None = None) -> Payload:
    """
    Freeze the parameters of a dispatch into the bytes that they mean.

    ``bytes``, ``bytearray`` and ``memoryview`` are copied, a ``str`` is UTF-8, ``None`` is empty, an in-memory file is
    read from its position without moving it, and everything else goes through ``json.dumps`` with default arguments, as
    ``optimizely/event_dispatcher.py`` does it.

    Args:
        params: What the caller gave. It is read and never changed.
        encode: Used in place of the rules above; returns the bytes, or a ``str`` to be encoded as UTF-8.

    Raises:
        UnsupportedPayload:
            With reason ``unreadable`` for streams and iterators, which can't be read without being consumed, and for
            :class:`UnreadableSource`; with ``unserializable`` for values that the encoder refuses.
    """
    if encode is not None and not isinstance(params, UnreadableSource):
        return Payload(_utf8(encode(params)))
    if isinstance(params, dict):
        return Payload(_json(params))
    return Payload(_bytes_of(params))


def freeze_query(url: str | None, params: object) -> Payload:
    """
    Freeze the query that ``params`` make behind what ``url`` already asks.

    Args:
        url: The target, whose own query comes first; None where it isn't known.
        params: A mapping, pairs, or a ready-made query, encoded as ``requests`` does: ``urlencode(params, doseq=True)``
            without the values that are None.

    Raises:
        UnsupportedPayload:
            With reason ``unserializable`` where no query can be made of ``params`` and ``url``, and with ``unreadable``
            for streams and iterators, which can't be read without being consumed.
    """
    try:
        own = urlsplit(url).query.encode("utf-8") if url else b""
        made = _query_of(params)
    except (TypeError, ValueError) as error:
        msg = f"no query can be made of {type(params).__name__}"
        raise UnsupportedPayload(msg, reason=Reason.UNSERIALIZABLE) from error
    return Payload(b"&".join(part for part in (own, made) if part), in_query=True)


def _query_of(params: object) -> bytes:
    if params is None:
        return b""
    if isinstance(params, (bytes, str)):
        return _utf8(params)
    items: Any = params.items() if isinstance(params, Mapping) else _unread(params)
    return urlencode([pair for key, values in items for pair in _pairs(key, values)], doseq=True).encode("ascii")


def _pairs(key: Any, values: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(values, (bytes, str)) or not hasattr(values, "__iter__"):
        values = (values,)
    return ((key, value) for value in _unread(values) if value is not None)


def _bytes_of(params: object) -> bytes:
    if params is None:
        return b""
    if isinstance(params, (bytes, bytearray, memoryview)):
        return bytes(params)
    if isinstance(params, str):
        return _utf8(params)
    if isinstance(params, io.BytesIO):
        return bytes(params.getbuffer()[params.tell() :])
    return _json(_unread(params))


def _unread(params: Any) -> Any:
    if isinstance(params, (Iterator, UnreadableSource)) or hasattr(params, "read"):
        msg = f"{type(params).__name__} can be read only once, by the dispatcher"
        raise UnsupportedPayload(msg, reason=Reason.UNREADABLE)
    return params


def _json(params: object) -> bytes:
    try:
        return _dumps(params).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        # The error's own text can quote the payload.
        msg = f"json.dumps refuses this {type(params).__name__}: {type(error).__name__}"
        raise UnsupportedPayload(msg, reason=Reason.UNSERIALIZABLE) from error


def _utf8(text: bytes | str) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        msg = "the text holds a lone surrogate, which UTF-8 can't carry (RFC 3629 section 3)"
        raise UnsupportedPayload(msg, reason=Reason.UNSERIALIZABLE) from error
