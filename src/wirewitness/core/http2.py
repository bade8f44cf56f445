"""
What was written to an HTTP/2 connection, told apart by streams (RFC 9113 sections 3.4, 4.1, 6.1, 6.2).
"""

from __future__ import annotations

from typing import Final, NamedTuple


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_FRAME_HEADER: Final = 9
_DATA: Final = 0x0
_HEADERS: Final = 0x1
_END_STREAM: Final = 0x1
_PADDED: Final = 0x8


class StreamPart(NamedTuple):
    """
    One frame that belongs to a request.

    Attributes:
        stream: The stream's number.
        head: Whether it begins a header section: the request's fields, or its trailers.
        content: The content in it, without padding.
        last: Whether the stream ends with it.
    """

    stream: int
    head: bool
    content: bytes
    last: bool

    def __repr__(self) -> str:
        return f"<StreamPart of stream {self.stream}, {len(self.content)} bytes>"


def stream_parts(written: bytes) -> list[StreamPart]:
    """
    The HEADERS and DATA frames in whole frames that were written at once, in order.

    Args:
        written: Whole frames, and before the first of a connection its preface. A CONTINUATION frame follows its HEADERS
            immediately, and tells nothing more.

    Raises:
        ValueError: If it's something else, or if a frame breaks the protocol.
    """
    parts: list[StreamPart] = []
    at = len(PREFACE) if written.startswith(PREFACE) else 0
    while at < len(written):
        begin = at + _FRAME_HEADER
        end = begin + int.from_bytes(written[at : at + 3], "big")
        if end > len(written) or begin > len(written):
            msg = "the last frame is cut short"
            raise ValueError(msg)
        kind, flags = written[at + 3], written[at + 4]
        stream = int.from_bytes(written[at + 5 : begin], "big") & 0x7FFFFFFF
        last = bool(flags & _END_STREAM)
        if kind == _DATA:
            content = written[begin:end]
            if flags & _PADDED:
                if not content or content[0] >= len(content):
                    msg = "a frame has more padding than content"
                    raise ValueError(msg)
                content = content[1 : len(content) - content[0]]
            parts.append(StreamPart(stream, head=False, content=content, last=last))
        elif kind == _HEADERS:
            parts.append(StreamPart(stream, head=True, content=b"", last=last))
        at = end
    return parts
