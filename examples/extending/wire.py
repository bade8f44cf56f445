"""A wire: how a client library that wirewitness does not know is seen. The library is tests/wire/paperboat.py."""

import sys

from collections.abc import Callable
from typing import Any

from wirewitness.wire import PatchPoint, Server, Tap, add, begin, canary


KEY = "_wirewitness"  # where a connection keeps the recorder of its request


def post(original: Callable[..., int]) -> Callable[..., int]:  # the whole request
    def wrapper(self: Any, path: str, body: bytes) -> int:
        recorder = begin(Server("http", self.host, self.port), "POST", path)
        if recorder is None:  # nobody is interested in it
            return original(self, path, body)
        setattr(self, KEY, recorder)
        try:
            status = original(self, path, body)
        except BaseException as error:
            recorder.failed(error)
            recorder.abandoned()
            raise
        finally:
            setattr(self, KEY, None)
        recorder.answered(status)
        return status

    return wrapper


def write(original: Callable[..., None]) -> Callable[..., None]:  # the lowest method that sees the bytes
    def wrapper(self: Any, data: bytes) -> None:
        original(self, data)
        if (recorder := getattr(self, KEY)) is not None:
            recorder.sent(data)

    return wrapper


def status(original: Callable[..., int]) -> Callable[..., int]:  # all has been sent
    def wrapper(self: Any) -> int:
        if (recorder := getattr(self, KEY)) is not None:
            recorder.claim()
        return original(self)

    return wrapper


def prove() -> None:
    library: Any = sys.modules["paperboat"]
    library.Boat(canary.HOST, 80, canary.Nowhere()).post(canary.PATH, canary.BODY)


POINTS = tuple(PatchPoint("paperboat", "Boat", wrap.__name__, wrap) for wrap in (post, write, status))
TAP = Tap("paperboat", POINTS, {KEY: None}, canaries=(prove,))
add(TAP)
