"""
Messages for libcurl, and what is asked of an attempt.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading

from collections import Counter, deque

from lanes import Tray

from wirewitness import Outcome, Verdict
from wirewitness.core.payload import freeze_query
from wirewitness.core.retry import RetryPolicy
from wirewitness.outbox.message import Form, Message
from wirewitness.typing import Evidence


JSON = (("Content-Type", "application/json"),)


BODY = json.dumps({"visitor": "Zoë", "value": 1.10}).encode()


PATIENCE = 20.0


SOON = RetryPolicy(base=0.01, ceiling=0.02)


class Endpoint:
    """Answers with bytes that no sink would; keeps what it was sent."""

    def __init__(self, *answers, close=True):
        self.answers = deque(answers)
        self.heads = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self._close = close
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self):
        while self.answers:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError):
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(1 << 16)
                self.heads.append(received.partition(b"\r\n\r\n")[0])
                self.begun.set()
                answer = self.answers.popleft()
                if answer is None:
                    self.go_on.wait(PATIENCE)
                    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while not self._close and connection.recv(1 << 16):
                    pass

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(PATIENCE)
        self._listener.close()


def message(url, body=BODY, method="POST", headers=JSON, **more):
    return Message(method, url, headers, body, Form.VALUE, 1, **more)


def query(url, params, method="GET"):
    return Message(method, url, (), freeze_query(url, params).body, Form.QUERY, 1)


def sent(sender, *messages, **options):
    """Every message's attempt, in the order of the messages."""
    tray = Tray(messages, **options)
    sender.run(tray)
    assert Counter(id(attempt.message) for attempt in tray.attempts) == Counter(map(id, messages))
    by_message = {id(attempt.message): attempt for attempt in tray.attempts}
    return [by_message[id(each)] for each in messages]


def one_by_one(sender, *messages, **options):
    return sent(sender, *messages, at_once=1, **options)


def ending(attempt):
    settled = attempt.settlement
    return (settled.outcome, settled.verdict, settled.evidence, settled.reason)


def rejected(reason):
    return (Outcome.REJECTED, Verdict.IDENTICAL, Evidence.RESPONSE, reason)


def refused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
