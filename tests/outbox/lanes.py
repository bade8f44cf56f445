"""
Lanes for a sender that has no Outbox.
"""

from __future__ import annotations

from collections import deque


class Tray:
    """A desk with so many messages, and nothing behind it."""

    def __init__(self, messages, *, recording=False, at_once=None):
        self.recording = recording
        self.waiting = deque(messages)
        self.attempts = []
        self.taken = 0
        self._at_once = at_once

    @property
    def out(self):
        return self.taken - len(self.attempts)

    def take(self, most, timeout):
        if not self.waiting:
            return None
        room = most if self._at_once is None else min(most, self._at_once - self.out)
        messages = [self.waiting.popleft() for _ in range(min(room, len(self.waiting)))]
        assert messages or timeout is not None
        self.taken += len(messages)
        return messages

    def done(self, attempts):
        assert attempts
        self.attempts.extend(attempts)
