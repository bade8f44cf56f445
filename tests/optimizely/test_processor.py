"""
The events that a processor takes are pending, dispatched, dropped or abandoned, at every instant.
"""

from __future__ import annotations

import gc
import json
import queue
import subprocess
import sys
import textwrap
import threading

from pathlib import Path

import pytest
import requests

from optimizely.event.event_processor import BatchEventProcessor, ForwardingEventProcessor
from optimizely.event.user_event import EventContext, UserEvent
from optimizely.optimizely import Optimizely

from wirewitness import MemorySpool, Outbox
from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.conformance import Sink
from wirewitness.optimizely import EventBook, book_of, instrument, uninstrument


# SDKs before 5 start their thread by a method that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:setDaemon:DeprecationWarning")


class Gate:
    """
    A dispatcher that keeps every event, and holds its caller until it's opened.
    """

    def __init__(self, *, shut=False):
        self.events = []
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        if not shut:
            self.opened.set()

    def dispatch_event(self, event):
        self.events.append(event)
        self.entered.release()
        assert self.opened.wait(60)

    def close(self):
        """
        What a client's ODP has, too.
        """

    @property
    def visitors(self):
        return [
            visitor["visitor_id"] for event in self.events if event is not None for visitor in event.params["visitors"]
        ]


@pytest.fixture
def make(datafile, request, seen, close):
    """
    Makes an instrumented client whose batch processor's class is named as the test, so that its metrics are its own.
    """
    made = []

    def make(dispatcher, base=BatchEventProcessor, **options):
        processor = type(request.node.name, (base,), {})(dispatcher, **options)
        client = Optimizely(datafile, event_dispatcher=dispatcher, event_processor=processor)
        made.append((client, dispatcher))
        return instrument(client, **seen.options)

    yield make
    for client, dispatcher in made:
        getattr(dispatcher, "opened", threading.Event()).set()
        close(client)
        executor = getattr(client.event_processor, "executor", None)
        if executor is not None:
            executor.join()
        uninstrument(client)


def track(client, count, name="visitor"):
    for number in range(count):
        client.track("order_placed", f"{name} {number}")


def stranger():
    """
    An event of no kind that the SDK makes a visitor of.
    """
    where = EventContext.__new__(EventContext)
    vars(where).update(account_id="1", project_id="2", revision="3", anonymize_ip=True, region="US")
    vars(where).update(client_name="python-sdk", client_version="0")
    return UserEvent(where, "ada", [], bot_filtering=False)


def test_events_that_reach_the_dispatcher_in_a_batch_are_dispatched(make):
    client = make(gate := Gate(), batch_size=3, start_on_init=True)

    track(client, 6)
    client.event_processor.stop()

    assert sorted(gate.visitors) == sorted(f"visitor {number}" for number in range(6))
    assert len(gate.events) == 2
    assert book_of(client) == EventBook(accepted=6, dispatched=6)
    assert str(book_of(client)) == "accepted 6 = dispatched 6 + dropped 0 + abandoned 0 + pending 0"


def test_what_waits_for_its_batch_is_pending(make):
    client = make(Gate(), batch_size=10, start_on_init=True)

    track(client, 4)

    assert book_of(client) == EventBook(accepted=4, pending=4)


def test_what_a_full_queue_does_not_take_is_dropped(make):
    client = make(gate := Gate(shut=True), batch_size=1, event_queue=queue.Queue(2), start_on_init=True)

    track(client, 1)
    assert gate.entered.acquire(timeout=20)
    track(client, 5)

    assert book_of(client) == EventBook(accepted=6, dispatched=1, dropped=3, pending=2)
    gate.opened.set()
    client.event_processor.stop()
    assert book_of(client) == EventBook(accepted=6, dispatched=3, dropped=3)
    assert len(gate.visitors) == 3


def test_what_waits_when_stop_gives_up_is_abandoned_and_counted_as_late_if_it_comes_after_all(make):
    client = make(gate := Gate(shut=True), batch_size=1, timeout_interval=0.01, start_on_init=True)
    track(client, 1)
    assert gate.entered.acquire(timeout=20)
    track(client, 3)

    client.event_processor.stop()

    assert book_of(client) == EventBook(accepted=4, dispatched=1, abandoned=3)
    gate.opened.set()
    client.event_processor.executor.join()
    assert len(gate.visitors) == 4
    assert book_of(client) == EventBook(accepted=4, dispatched=1, abandoned=3, late=3)


def test_what_comes_after_stop_is_dropped(make):
    client = make(gate := Gate(), batch_size=1, start_on_init=True)
    client.event_processor.stop()

    track(client, 2)

    assert gate.events == []
    assert book_of(client) == EventBook(accepted=2, dropped=2)


def test_what_comes_while_a_stop_that_gave_up_still_hangs_is_dropped(make):
    client = make(gate := Gate(shut=True), batch_size=1, timeout_interval=0.01, start_on_init=True)
    track(client, 1)
    assert gate.entered.acquire(timeout=20)
    client.event_processor.stop()

    track(client, 1)

    assert book_of(client) == EventBook(accepted=2, dispatched=1, dropped=1)


def test_a_processor_that_was_never_started_keeps_its_events_until_it_is(make):
    client = make(gate := Gate(), batch_size=1)
    track(client, 2)
    assert book_of(client) == EventBook(accepted=2, pending=2)

    client.event_processor.start()
    client.event_processor.stop()

    assert len(gate.events) == 2
    assert book_of(client) == EventBook(accepted=2, dispatched=2)


def test_a_processor_that_is_stopped_without_ever_having_run_abandons_its_events(make):
    client = make(Gate(), batch_size=1)
    track(client, 2)

    client.event_processor.stop()

    assert book_of(client) == EventBook(accepted=2, abandoned=2)


def test_a_processor_that_is_started_again_dispatches_again(make):
    client = make(Gate(), batch_size=1, start_on_init=True)
    client.event_processor.stop()
    client.event_processor.start()

    track(client, 2)
    client.event_processor.stop()

    assert book_of(client) == EventBook(accepted=2, dispatched=2)


def test_what_a_processor_keeps_that_is_no_longer_there_or_no_longer_watched_is_abandoned(project, seen, request):
    del project["sdkKey"]  # under which the SDK keeps a client for ever
    datafile, name = json.dumps(project), request.node.name
    kind = type(name, (BatchEventProcessor,), {})

    def shown():
        return (
            seen.value("wirewitness.events.pending", processor=name),
            seen.value("wirewitness.events.settled", processor=name, outcome="abandoned"),
        )

    for ends in (uninstrument, lambda client: None):
        client = Optimizely(datafile, event_dispatcher=(gate := Gate()), event_processor=kind(gate, batch_size=5))
        instrument(client, **seen.options)
        track(client, 2)
        before = shown()
        ends(client)
        getattr(client, "odp_manager", gate).close()
        del client
        gc.collect()
        assert (before[0], shown()) == (2, (0, before[1] + 2))


def test_what_has_ended_is_forgotten_unless_the_processor_keeps_it(make):
    client = make(gate := Gate(), batch_size=1, start_on_init=True)
    for _ in range(5):
        client.event_processor.process(stranger())
    client.event_processor.stop()

    ledger = vars(client)["_wirewitness"].events.ledger
    assert (ledger.book().dropped, len(ledger._given_up), gate.visitors) == (5, 0, [])


@pytest.mark.processes
def test_what_waits_when_the_process_ends_is_abandoned_in_its_last_export(datafile, tmp_path):
    path = tmp_path / "datafile.json"
    path.write_text(datafile)
    program = """
        import json, sys, warnings
        warnings.simplefilter("ignore")
        from pathlib import Path
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
        from optimizely.event.event_processor import BatchEventProcessor
        from optimizely.optimizely import Optimizely
        from wirewitness.optimizely import instrument

        class Nowhere:
            def dispatch_event(self, event):
                pass

        provider = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter(), 1e9)])
        nowhere = Nowhere()
        processor = BatchEventProcessor(nowhere, batch_size=10, start_on_init=True)
        client = Optimizely(Path(sys.argv[1]).read_text(), event_dispatcher=nowhere, event_processor=processor)
        instrument(client, meter_provider=provider)
        for _ in range(3):
            client.track("order_placed", "ada")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    (resource,) = json.loads(told)["resource_metrics"]
    metrics = {metric["name"]: metric for scope in resource["scope_metrics"] for metric in scope["metrics"]}
    points = metrics["wirewitness.events.settled"]["data"]["data_points"]
    ends = {
        point["attributes"]["outcome"]: point["value"]
        for point in points
        if point["attributes"]["processor"] == "BatchEventProcessor"
    }
    assert ends == {"dispatched": 0, "dropped": 0, "abandoned": 3}


def test_an_event_that_no_visitor_is_made_of_is_dropped(make):
    # SDKs before 5 call the dispatcher with None then.
    faults = INTERNAL_ERRORS.counts()["optimizely"]
    client = make(gate := Gate(), batch_size=2, start_on_init=True)

    client.event_processor.process(stranger())
    client.event_processor.stop()

    assert gate.visitors == []
    assert book_of(client) == EventBook(accepted=1, dropped=1)
    assert INTERNAL_ERRORS.counts()["optimizely"] == faults


def test_what_is_no_event_is_not_counted(make):
    client = make(Gate(), batch_size=1, start_on_init=True)

    client.event_processor.process("no event")

    assert book_of(client) == EventBook()


def test_what_was_queued_before_the_client_was_instrumented_is_not_counted(datafile, seen, close):
    gate = Gate()
    client = Optimizely(datafile, event_dispatcher=gate, event_processor=BatchEventProcessor(gate, batch_size=1))
    track(client, 2, "before")
    instrument(client, **seen.options)
    track(client, 1)

    client.event_processor.start()
    client.event_processor.stop()

    assert len(gate.visitors) == 3
    assert book_of(client) == EventBook(accepted=1, dispatched=1)
    close(client)


def test_a_queue_that_takes_no_attributes_is_one_that_is_never_full(make):
    client = make(Gate(), batch_size=1, event_queue=queue.SimpleQueue(), start_on_init=True)

    track(client, 2)
    client.event_processor.stop()

    assert book_of(client) == EventBook(accepted=2, dispatched=2)


def test_a_forwarding_processor_s_events_are_dispatched_at_once_also_where_the_dispatcher_raises(make):
    class Broken:
        def dispatch_event(self, event):
            msg = "no network"
            raise OSError(msg)

    client = make(Broken(), ForwardingEventProcessor)

    track(client, 2)

    assert book_of(client) == EventBook(accepted=2, dispatched=2)


def test_the_book_closes_at_every_instant_while_threads_track_and_the_queue_overflows(make):
    client = make(gate := Gate(), batch_size=3, event_queue=queue.Queue(5), start_on_init=True)
    done = threading.Event()
    open_books = []

    def read():
        while not done.is_set():
            book = book_of(client)
            if not book.closes:
                open_books.append(book)

    threads = [threading.Thread(target=track, args=(client, 100, f"{number}")) for number in range(4)]
    reader = threading.Thread(target=read)
    for thread in (reader, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    client.event_processor.stop()
    done.set()
    reader.join()

    assert open_books == []
    book = book_of(client)
    assert (book.accepted, book.pending) == (400, 0)
    assert book.dispatched == len(gate.visitors)


def test_every_metric_is_there_at_zero_before_the_first_event_and_tells_what_the_book_tells(make, seen, request):
    name = request.node.name
    client = make(Gate(), batch_size=10, start_on_init=True)

    def shown():
        outcomes = ("dispatched", "dropped", "abandoned")
        ends = [seen.value("wirewitness.events.settled", processor=name, outcome=outcome) for outcome in outcomes]
        ways = [seen.value(f"wirewitness.events.{way}", processor=name) for way in ("accepted", "pending")]
        return (*ways, *ends)

    assert shown() == (0, 0, 0, 0, 0)
    track(client, 3)
    assert shown() == (3, 3, 0, 0, 0)
    client.event_processor.stop()
    track(client, 1)
    assert shown() == (4, 0, 3, 1, 0)


def test_a_fault_of_the_counting_reaches_nobody(make, monkeypatch):
    client = make(gate := Gate(), batch_size=1, start_on_init=True)
    faults = INTERNAL_ERRORS.counts()["optimizely"]
    monkeypatch.setattr("wirewitness.optimizely.event_ledger.EventLedger.accept", None)
    monkeypatch.setattr("wirewitness.optimizely.event_ledger.EventLedger.settle", None)

    track(client, 2)
    client.event_processor.stop()

    assert len(gate.events) == 2
    assert INTERNAL_ERRORS.counts()["optimizely"] > faults


@pytest.mark.processes
@pytest.mark.usefixtures("unmeasured")
def test_a_forked_child_starts_with_an_empty_book_and_tells_that_its_processor_is_dead(datafile, tmp_path):
    path = tmp_path / "datafile.json"
    path.write_text(datafile)
    program = """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from pathlib import Path
        from optimizely.event.event_processor import BatchEventProcessor
        from optimizely.optimizely import Optimizely
        from wirewitness.optimizely import book_of, instrument

        class Nowhere:
            def dispatch_event(self, event):
                pass

        def tell():
            os.write(1, f"{book_of(client)}\\n".encode())

        nowhere = Nowhere()
        processor = BatchEventProcessor(nowhere, batch_size=10, start_on_init=True)
        client = Optimizely(Path(sys.argv[1]).read_text(), event_dispatcher=nowhere, event_processor=processor)
        instrument(client)
        client.track("order_placed", "ada")
        child = os.fork()
        tell()
        if child == 0:
            client.track("order_placed", "bob")
            tell()
            os._exit(0)
        os.waitpid(child, 0)
        client.event_processor.stop()
        tell()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()

    assert sorted(told) == sorted(
        [
            "accepted 1 = dispatched 0 + dropped 0 + abandoned 0 + pending 1",
            "accepted 0 = dispatched 0 + dropped 0 + abandoned 0 + pending 0",
            "accepted 1 = dispatched 0 + dropped 1 + abandoned 0 + pending 0",
            "accepted 1 = dispatched 1 + dropped 0 + abandoned 0 + pending 0",
        ]
    )


class Poster:
    def __init__(self, url):
        self._url = url

    def dispatch_event(self, event):
        requests.post(self._url, json=event.params, timeout=10)


def spans_of(seen, start):
    return [span for span in seen.spans if span.name.startswith(start)]


def test_a_request_a_decision_the_dispatch_and_the_wire_are_one_trace(make, seen):
    with Sink() as sink:
        client = make(Poster(f"{sink.url}/v1/events"), ForwardingEventProcessor)
        with seen.tracer_provider.get_tracer("application").start_as_current_span("request"):
            client.create_user_context("ada").decide("new_checkout")

    (request,), (dispatch,), (wire,) = (spans_of(seen, start) for start in ("request", "dispatch", "POST"))
    assert [event.name for event in request.events] == ["feature_flag.evaluation"]
    assert dispatch.parent.span_id == request.context.span_id
    assert wire.parent.span_id == dispatch.context.span_id
    assert not dispatch.links


def test_a_batch_s_dispatch_is_linked_to_the_requests_whose_events_it_carries(make, seen):
    tracer = seen.tracer_provider.get_tracer("application")
    with Sink() as sink:
        client = make(Poster(f"{sink.url}/v1/events"), batch_size=2, start_on_init=True)
        for number in range(3):
            with tracer.start_as_current_span(f"request {number}"):
                client.create_user_context("ada").decide("new_checkout")
        client.track("order_placed", "nobody's request")
        client.event_processor.stop()

    requests_ = [span.context for span in spans_of(seen, "request")]
    links = [[link.context for link in span.links] for span in spans_of(seen, "dispatch")]
    assert links == [requests_[:2], requests_[2:]]


def test_a_request_s_event_in_an_outbox_is_accepted_and_sent_in_the_request_s_trace(make, seen):
    with Sink() as sink:
        outbox = Outbox(Poster(f"{sink.url}/v1/events"), **seen.options)
        client = make(outbox, batch_size=1, start_on_init=True)
        with seen.tracer_provider.get_tracer("application").start_as_current_span("request"):
            client.create_user_context("ada").decide("new_checkout")
        client.event_processor.stop()
        assert outbox.flush(20).empty
        outbox.close(20)

    (request,), (accept,), (wire,) = (spans_of(seen, start) for start in ("request", "accept", "POST"))
    assert accept.parent.span_id == request.context.span_id
    assert wire.context.trace_id == request.context.trace_id


def test_a_batch_s_acceptance_in_an_outbox_is_linked_to_the_requests_whose_events_it_carries(make, seen):
    tracer = seen.tracer_provider.get_tracer("application")
    with Sink() as sink, Outbox(Poster(f"{sink.url}/v1/events"), **seen.options) as outbox:
        client = make(outbox, batch_size=2, start_on_init=True)
        for number in range(2):
            with tracer.start_as_current_span(f"request {number}"):
                client.create_user_context("ada").decide("new_checkout")
        client.event_processor.stop()
        assert outbox.flush(20).empty

    requests_ = [span.context for span in spans_of(seen, "request")]
    (accept,), (dispatch,) = (spans_of(seen, start) for start in ("accept", "dispatch"))
    assert [link.context for link in accept.links] == requests_
    assert dispatch.parent.span_id == accept.context.span_id


def test_a_batch_that_an_outbox_drops_is_linked_to_the_requests_whose_events_it_carried(make, seen):
    tracer = seen.tracer_provider.get_tracer("application")
    with Outbox(print, spool=MemorySpool(most=1, most_bytes=10), **seen.options) as outbox:
        client = make(outbox, batch_size=2, start_on_init=True)
        for number in range(2):
            with tracer.start_as_current_span(f"request {number}"):
                client.create_user_context("ada").decide("new_checkout")
        client.event_processor.stop()

    requests_ = [span.context for span in spans_of(seen, "request")]
    (dispatch,) = spans_of(seen, "dispatch")
    assert dispatch.attributes["wirewitness.reason"] == "too_large"
    assert {link.context.span_id for link in dispatch.links} >= {there.span_id for there in requests_}


def test_the_sdk_s_own_sources_are_where_this_expects_them():
    import optimizely

    source = (Path(optimizely.__file__).parent / "event" / "event_processor.py").read_text()
    assert "self.event_queue.put_nowait(user_event)" in source
    assert "self._flush_batch()" in source
