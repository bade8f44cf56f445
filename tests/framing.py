"""
How h11 reads a request: the judge of what is read here.
"""

from __future__ import annotations

import h11


def as_h11_reads(sent):
    """
    A request's content, or None where h11 refuses it or waits for more.
    """
    connection, body = h11.Connection(h11.SERVER), b""
    try:
        connection.receive_data(sent)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return body
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return None
    except h11.RemoteProtocolError:
        return None
