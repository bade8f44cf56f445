"""
Never run: type checkers read it, to see that the public names are typed as their users need them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wirewitness import (
    Dispatch,
    HttpSender,
    MemorySpool,
    Outbox,
    Outcome,
    RetryPolicy,
    configure_telemetry,
    ledger_of,
    witness,
)
from wirewitness.ledger import Ledger, process_ledger
from wirewitness.testing import capture


class Dispatcher:
    @staticmethod
    def dispatch_event(event: object) -> None: ...


@witness
def plain(http_verb: str, url: str, params: Mapping[str, Any]) -> int:
    return 204


@witness(name="named", payload="body", url=lambda body: "http://127.0.0.1/", evidence_timeout=1.5, strict=True)
def named(body: bytes) -> None: ...


@witness
async def later(http_verb: str, url: str, params: Mapping[str, Any]) -> str:
    return "sent"


def told(dispatch: Dispatch) -> None:
    outcome: Outcome | None = dispatch.outcome
    assert outcome is not None


as_class: type[Dispatcher] = witness(Dispatcher, on_settle=told)
as_instance: Dispatcher = witness(Dispatcher())
status: int = plain("POST", "http://127.0.0.1/", {})
ledger: Ledger = ledger_of(as_class)
closes: bool = process_ledger.book().closes
shutdown: Callable[[], None] = configure_telemetry("shop", files="out", logs="json")

with capture(timeout=1) as dispatches:
    exchanges = [dispatch.exchanges for dispatch in dispatches]

outbox: Outbox = Outbox(HttpSender(), spool=MemorySpool(most=10), retry=RetryPolicy(attempts=3), overflow="drop_oldest")
outbox.dispatch_event({"url": "http://127.0.0.1/", "params": {}})
outbox("POST", "http://127.0.0.1/", {})
remaining: int = outbox.flush(1.0).remaining
