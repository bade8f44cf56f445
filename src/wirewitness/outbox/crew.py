"""
The threads that send.
"""

from __future__ import annotations

import threading
import time

from collections.abc import Sequence
from typing import Final

from wirewitness._guard import fail_open
from wirewitness.outbox.desk import Desk
from wirewitness.outbox.message import Message
from wirewitness.outbox.sender import Attempt, Sender


# How long a thread whose sender broke down rests before it tries again.
_REST: Final = 1.0


class _Place:
    """
    One thread's place at the desk: it knows what the thread has in hand.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._in_hand: dict[int, Message] = {}

    @property
    def recording(self) -> bool:
        return self._desk.recording

    def take(self, most: int, timeout: float | None) -> list[Message] | None:
        messages = self._desk.take(most, timeout)
        for message in messages or ():
            self._in_hand[id(message)] = message
        return messages

    def done(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self._in_hand.pop(id(attempt.message), None)
        self._desk.done(attempts)

    def abandon(self) -> None:
        self._desk.put_back(list(self._in_hand.values()))


class Crew:
    """
    As many threads as a sender wants, at one desk.

    Args:
        name: The Outbox's name, for the threads'.
        sender: What they run.
        desk: Where they fetch and report.
    """

    def __init__(self, name: str, sender: Sender, desk: Desk) -> None:
        self._sender = sender
        self._desk = desk
        self._threads = [
            threading.Thread(target=self._work, name=f"wirewitness-{name}-{number}", daemon=True)
            for number in range(sender.threads)
        ]

    def start(self) -> None:
        """
        Start them.

        Raises:
            RuntimeError: If the interpreter is shutting down, or the system has no thread left.
        """
        self._desk.wakeup.prepare()
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while not self._desk.stopped:
            place = _Place(self._desk)
            try:
                if self._run(place):
                    return
            finally:
                place.abandon()
            time.sleep(_REST)

    @fail_open("outbox")
    def _run(self, place: _Place) -> bool:
        self._sender.run(place)
        return True

    @property
    def running(self) -> bool:
        """Whether any thread lives."""
        return any(thread.is_alive() for thread in self._threads)

    def run_here(self) -> None:
        """
        Send in the calling thread, where no other can be started any more.
        """
        self._work()

    def join(self, timeout: float) -> bool:
        """
        Wait for them to end.

        Returns:
            Whether they have.
        """
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not self.running
