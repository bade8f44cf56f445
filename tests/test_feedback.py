"""
A log handler that dispatches each record gets no end of lines about its own dispatches.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import threading

import pytest
import requests

from wirewitness import HttpSender, Outbox, Outcome, witness
from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.typing import Reason


FEEDBACK = (Outcome.DROPPED, Reason.FEEDBACK)


class Ship(logging.Handler):
    def __init__(self, dispatch, url):
        super().__init__()
        self.dispatch = dispatch
        self.url = url

    def emit(self, record):
        self.dispatch({"http_verb": "POST", "url": self.url, "params": {"line": record.getMessage()}})


def post(event):
    url, params = (event["url"], event["params"]) if isinstance(event, dict) else (event.url, event.params)
    requests.post(url, json.dumps(params), timeout=5)


@pytest.fixture
def root():
    logger = logging.getLogger()
    level, handlers = logger.level, list(logger.handlers)
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.setLevel(level)
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)


@pytest.fixture
def outbox():
    made = []

    def make(sender, name="logs"):
        made.append(Outbox(sender, name=name))
        return made[-1]

    yield make
    for each in made:
        each.close(0)


def lines(sink):
    return [json.loads(request.body)["line"] for request in sink.requests]


@pytest.mark.parametrize("sender", [HttpSender, lambda: post], ids=["http", "inner"])
def test_one_log_line_through_an_outbox_costs_one_request(sender, sink, root, outbox):
    box = outbox(sender())
    root.addHandler(Ship(box.dispatch_event, sink.url + "/v1/events"))
    logging.getLogger("shop").error("something went wrong")
    assert box.flush(10).empty
    assert len(sink.requests) == 1
    settled = box.ledger.book().settled
    assert settled[Outcome.DELIVERED, Reason.NONE] == 1
    assert settled[FEEDBACK] > 0
    assert box.ledger.book().closes


def test_what_is_cut_off_is_said_once(sink, root, outbox, caplog):
    box = outbox(HttpSender())
    root.addHandler(Ship(box.dispatch_event, sink.url + "/v1/events"))
    for number in range(3):
        logging.getLogger("shop").error("line %d", number)
    assert box.flush(10).empty
    assert sorted(lines(sink)) == ["line 0", "line 1", "line 2"]
    said = [record for record in caplog.records if "dispatch.feedback" in record.getMessage()]
    assert len(said) == 1
    assert "dispatcher=logs" in said[0].getMessage()


def test_records_that_are_passed_on_to_another_thread_are_recognised(sink, root, outbox):
    box = outbox(HttpSender())
    records = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, Ship(box.dispatch_event, sink.url + "/v1/events"))
    listener.start()
    root.addHandler(logging.handlers.QueueHandler(records))
    try:
        logging.getLogger("shop").error("something went wrong")
        while not sink.requests or box.flush(10).remaining or not records.empty():
            pass
    finally:
        listener.stop()
    assert box.flush(10).empty
    # The line, and the one that says that others are cut off.
    assert [line.partition(" ")[0] for line in lines(sink) if line != "something went wrong"] in (
        [],
        ["event=dispatch.feedback"],
    )


def test_two_outboxes_that_ship_log_lines_do_not_keep_each_other_busy(sink, root, outbox):
    one, two = outbox(HttpSender(), "one"), outbox(HttpSender(), "two")
    root.addHandler(Ship(one.dispatch_event, sink.url + "/v1/events"))
    root.addHandler(Ship(two.dispatch_event, sink.url + "/v1/events"))
    logging.getLogger("shop").error("something went wrong")
    before = -1
    while len(sink.requests) > before or one.flush(10).remaining or two.flush(10).remaining:
        before = len(sink.requests)
    assert lines(sink).count("something went wrong") == 2
    assert one.ledger.book().closes
    assert two.ledger.book().closes
    assert len(sink.requests) < 40


def test_a_line_about_another_outboxs_payload_is_shipped(sink, root, outbox):
    logs, events = outbox(HttpSender(), "logs"), outbox(HttpSender(), "events")
    handler = Ship(logs.dispatch_event, sink.url + "/v1/events")
    handler.addFilter(logging.Filter("wirewitness"))
    root.addHandler(handler)
    events.dispatch_event({"http_verb": "POST", "url": sink.url + "/status/400", "params": {"line": "an event"}})
    assert events.flush(10).empty
    assert logs.flush(10).empty
    assert any("dispatcher=events outcome=rejected" in line for line in lines(sink))


@pytest.mark.parametrize("path", ["/v1/events", "/status/503"])
def test_a_log_handler_through_a_witnessed_dispatcher_gets_no_line_about_a_line(path, sink, root):
    ship = witness(post, name="shipper")
    before = INTERNAL_ERRORS.counts()
    handler = Ship(ship, sink.url + path)
    handler.addFilter(lambda record: not record.name.startswith("urllib3"))
    root.addHandler(handler)
    logging.getLogger("shop").error("something went wrong")
    # The line, and one about its dispatch.
    assert len(sink.requests) == 2
    assert ship.ledger.book().closes
    assert INTERNAL_ERRORS.counts() == before


def test_an_inner_dispatcher_may_dispatch_through_its_own_outbox(sink, outbox):
    followed = threading.Event()

    def send(event):
        post(event)
        if not followed.is_set():
            followed.set()
            box.dispatch_event({"http_verb": "POST", "url": sink.url + "/v1/events", "params": {"line": "posted"}})

    box = outbox(send)
    box.dispatch_event({"http_verb": "POST", "url": sink.url + "/v1/events", "params": {"line": "posted"}})
    assert box.flush(10).empty
    assert len(sink.requests) == 2
    assert box.ledger.book().settled[FEEDBACK] == 0
