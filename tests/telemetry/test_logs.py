from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading

from typing import ClassVar

import pytest
import requests
import structlog

from structlog.testing import capture_logs

from wirewitness import witness
from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.telemetry.logs import RateLimit


def post(http_verb, url, params):
    return requests.post(url, json=params, timeout=5)


@pytest.fixture
def configured():
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    yield
    structlog.reset_defaults()


def own(lines):
    return [line for line in lines if "dispatcher" in line]


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("path", "event", "level"),
    [("/v1/events", "dispatch.delivered", "debug"), ("/status/503", "dispatch.rejected", "warning")],
)
def test_a_settled_dispatch_is_one_line(seen, sink, path, event, level):
    with capture_logs() as lines:
        witness(post, name="mine", **seen.options)("POST", sink.url + path, {"a": 1})

    (line,) = own(lines)
    assert (line["event"], line["log_level"]) == (event, level)
    span = seen.span("dispatch mine")
    assert line["trace_id"] == f"{span.context.trace_id:032x}"
    assert line["span_id"] == f"{span.context.span_id:016x}"
    assert line["digest"] == sink.requests[0].digest.hex()
    assert line["verdict"] == "identical"


@pytest.mark.usefixtures("configured")
def test_an_altered_payload_is_an_error_line_whatever_the_outcome(sink):
    @witness
    def tamper(http_verb, url, params):
        requests.post(url, json={**params, "b": 2}, timeout=5)

    with capture_logs() as lines:
        tamper("POST", f"{sink.url}/v1/events", {"a": 1})

    (line,) = own(lines)
    assert (line["event"], line["log_level"], line["outcome"]) == ("payload.altered", "error", "delivered")
    assert line["offset"] == 7


@pytest.mark.usefixtures("configured")
def test_a_failed_dispatch_and_a_dropped_one_are_warnings():
    @witness
    def fail(http_verb, url, params):
        raise ConnectionRefusedError

    @witness
    def refuse(http_verb, url, params):
        raise TypeError

    with capture_logs() as lines:
        with pytest.raises(ConnectionRefusedError):
            fail("POST", "http://127.0.0.1/", {"a": 1})
        with pytest.raises(TypeError):
            refuse("POST", "http://127.0.0.1/", {"a": object()})

    assert [(line["event"], line["log_level"]) for line in own(lines)] == [
        ("dispatch.failed", "warning"),
        ("dispatch.dropped", "warning"),
    ]


@pytest.mark.usefixtures("configured")
def test_lines_of_dropped_dispatches_are_limited_and_what_was_held_back_is_counted():
    @witness
    def refuse(http_verb, url, params):
        raise TypeError

    with capture_logs() as lines:
        for _ in range(30):
            with pytest.raises(TypeError):
                refuse("POST", "http://127.0.0.1/", {"a": object()})

    assert len(own(lines)) == 10
    assert refuse.ledger.book().accepted == 30


def test_a_rate_limit_reports_what_it_held_back(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("wirewitness.telemetry.logs.monotonic", lambda: clock[0])
    limit = RateLimit(most=2, seconds=60.0)
    assert [limit.take() for _ in range(4)] == [0, 0, None, None]
    clock[0] += 60
    assert limit.take() == 2


def test_without_structlog_configured_lines_go_through_logging_and_none_to_standard_output(sink, caplog, capsys):
    assert not structlog.is_configured()
    with caplog.at_level(logging.DEBUG, "wirewitness"):
        witness(post, name="mine")("POST", f"{sink.url}/v1/events", {"a": 1})
        witness(post, name="mine")("POST", f"{sink.url}/status/503", {"a": 1})

    own = [record for record in caplog.records if record.name == "wirewitness"]
    assert [(record.levelname, record.getMessage().split()[0]) for record in own] == [
        ("DEBUG", "event=dispatch.delivered"),
        ("WARNING", "event=dispatch.rejected"),
    ]
    assert capsys.readouterr().out == ""


def test_a_logger_that_is_not_of_structlogs_own_kind_still_gets_the_lines(sink):
    lines = []

    class Plain:
        def __init__(self, *args):
            pass

        def bind(self, **_):
            return self

        def log(self, level, event, **fields):
            lines.append((level, event))

    structlog.configure(wrapper_class=lambda *_, **__: Plain())
    try:
        witness(post)("POST", f"{sink.url}/v1/events", {"a": 1})
    finally:
        structlog.reset_defaults()

    assert lines == [(logging.DEBUG, "dispatch.delivered")]


def test_wrapping_does_not_freeze_the_applications_structlog(configured, sink):
    dispatcher = witness(post)
    lines = []
    structlog.configure(
        processors=[lambda _, __, event: lines.append(event) or (_ for _ in ()).throw(structlog.DropEvent)]
    )
    dispatcher("POST", f"{sink.url}/v1/events", {"a": 1})
    assert [line["event"] for line in own(lines)] == ["dispatch.delivered"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_may_write_lines_though_another_thread_held_the_limit():
    limit = RateLimit(most=1, seconds=60.0)
    held, release = threading.Event(), threading.Event()

    def hold():
        with limit._lock:
            held.set()
            release.wait(10.0)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10.0)
    child = os.fork()
    if child == 0:
        taken = []
        asking = threading.Thread(target=lambda: taken.append(limit.take()), daemon=True)
        asking.start()
        asking.join(5.0)
        os._exit(0 if taken == [0] else 1)
    _, status = os.waitpid(child, 0)
    release.set()
    thread.join()
    assert status == 0


class Recording(structlog.PrintLogger):
    """A logger as applications write one: it has methods for levels, and knows nothing of them."""

    lines: ClassVar = []

    def msg(self, *args, **fields):
        self.lines.append(fields or args)

    debug = info = warning = error = log = msg


async def _in_a_loop(call):
    call()


@pytest.mark.processes
@pytest.mark.parametrize("in_loop", [False, True])
@pytest.mark.parametrize("to_stdlib", [False, True], ids=["own", "stdlib"])
@pytest.mark.parametrize(
    "wrapper",
    [
        structlog.BoundLogger,
        structlog.stdlib.BoundLogger,
        structlog.stdlib.AsyncBoundLogger,
        structlog.make_filtering_bound_logger(logging.INFO),
        None,
    ],
    ids=lambda wrapper: getattr(wrapper, "__name__", "none"),
)
def test_a_line_is_written_through_every_bound_logger(wrapper, to_stdlib, in_loop, caplog):
    caplog.set_level(logging.INFO)
    Recording.lines.clear()
    before = INTERNAL_ERRORS.counts()
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
        wrapper_class=wrapper,
        logger_factory=structlog.stdlib.LoggerFactory() if to_stdlib else lambda *_: Recording(),
    )

    @witness(name="d")
    def dispatch(event):
        raise ConnectionError

    def call():
        with contextlib.suppress(ConnectionError):
            dispatch({"a": 1})

    try:
        asyncio.run(_in_a_loop(call)) if in_loop else call()
    finally:
        structlog.reset_defaults()
    lines = [record.getMessage() for record in caplog.records] if to_stdlib else Recording.lines
    assert len([line for line in lines if "dispatch.failed" in str(line)]) == 1
    assert INTERNAL_ERRORS.counts() == before


def test_a_line_is_written_though_a_processor_of_the_application_fails(caplog):
    def fail(*_):
        raise LookupError

    structlog.configure(processors=[fail], wrapper_class=structlog.stdlib.BoundLogger)

    @witness(name="d")
    def dispatch(event):
        raise ConnectionError

    try:
        with pytest.raises(ConnectionError):
            dispatch({"a": 1})
    finally:
        structlog.reset_defaults()
    assert [record for record in caplog.records if "event=dispatch.failed" in record.getMessage()]
