"""
A spool: a MemorySpool with one file per message, in a folder of this process. It survives SIGKILL, but not a power cut.
"""

import json

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from wirewitness.outbox import Form, MemorySpool, Message, SpoolStats
from wirewitness.typing import Reason


class FolderSpool(MemorySpool):
    durable = True

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder, self._in_child = Path(folder), False
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def abandon(self) -> None:
        super().abandon()
        self._files, self._in_child = dict[Message, Path](), True  # A forked child only adds files.

    def start(self) -> int:
        for path in () if self._in_child else sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValueError):  # What cannot be read stays, for you to look at.
                method, url, headers, body, form, at = json.loads(path.read_text())
                fields = tuple((name, value) for name, value in headers)
                message = Message(method, url, fields, body.encode("latin-1"), Form(form), at)
                if super().put(message) is None:
                    self._files[message] = path
        return super().stats().size

    def put(self, message: Message) -> Reason | None:
        path = self._files[message] = self._folder / f"{message.accepted_ns:020}-{uuid4().hex}.json"
        asked = message.method, message.url, message.headers, message.body.decode("latin-1"), message.form
        try:
            path.write_text(json.dumps([*asked, message.accepted_ns]))
            return super().put(message)
        except OSError:
            return Reason.SPOOL_FAILED
        finally:
            if not message.id:
                self.forget([message])

    def forget(self, messages: Iterable[Message]) -> None:
        for message in messages:
            with suppress(KeyError, OSError):
                self._files.pop(message).unlink()

    def stats(self) -> SpoolStats:
        return replace(super().stats(), durable=len(self._files))

    def close(self) -> list[Message]:
        return [message for message in super().close() if self._files.pop(message, None) is None]
