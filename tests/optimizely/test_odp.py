"""
ODP's events are pending, dispatched, dropped or abandoned, at every instant, by what the SDK makes of the answers.
"""

from __future__ import annotations

import json
import threading

import pytest

from optimizely.optimizely import Optimizely

from wirewitness import ConfigurationError
from wirewitness.conformance import Sink
from wirewitness.optimizely import EventBook, instrument, odp_book_of, uninstrument


sdk_settings = pytest.importorskip("optimizely.helpers.sdk_settings", reason="SDKs before 5 have no ODP")
events = pytest.importorskip("optimizely.odp.odp_event_manager")


class Nowhere:
    def dispatch_event(self, event):
        pass


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture
def make(project, seen):
    """
    Makes an instrumented client whose project has ODP at a URL.
    """
    made = []

    def make(url, **options):
        keys = {"key": "odp", "publicKey": "a-public-key", "host": url, "pixelUrl": url}
        manager = events.OdpEventManager(**options)
        manager.retry_count = 1
        client = Optimizely(
            json.dumps({**project, "integrations": [keys]}),
            event_dispatcher=Nowhere(),
            settings=sdk_settings.OptimizelySdkSettings(odp_event_manager=manager),
        )
        made.append(client)
        return instrument(client, **seen.options)

    yield make
    for client in made:
        client.close()
        uninstrument(client)


def send(client, count):
    for number in range(count):
        client.send_odp_event(action="viewed", identifiers={"email": f"{number}@example.com"})


def test_events_that_odp_has_taken_are_dispatched(make, sink):
    client = make(f"{sink.url}/status/202", flush_interval=60)

    send(client, 3)
    assert odp_book_of(client) == EventBook(accepted=3, pending=3)
    client.close()

    assert len(sink.requests) == 1
    assert odp_book_of(client) == EventBook(accepted=3, dispatched=3)


def test_events_are_abandoned_when_the_retries_are_used_up(make, sink):
    sink.script("/odp/v3/events", [503, 503, 202])
    client = make(f"{sink.url}/odp", flush_interval=60)

    send(client, 2)
    client.close()

    assert len(sink.requests) == 2
    assert odp_book_of(client) == EventBook(accepted=2, abandoned=2)
    assert len(vars(client)["_wirewitness"].odp.ledger._given_up) == 0


def test_a_retry_that_works_makes_the_events_dispatched(make, sink):
    sink.script("/odp/v3/events", [503, 202])
    client = make(f"{sink.url}/odp", flush_interval=60)

    send(client, 2)
    client.close()

    assert len(sink.requests) == 2
    assert odp_book_of(client) == EventBook(accepted=2, dispatched=2)


def test_what_comes_after_close_is_dropped(make, sink):
    client = make(f"{sink.url}/status/202", flush_interval=60)
    client.close()

    send(client, 2)

    assert odp_book_of(client) == EventBook(accepted=2, dropped=2)


class Slow:
    """
    An API that takes everything as soon as it's let.
    """

    def __init__(self):
        self.entered = threading.Event()
        self.opened = threading.Event()

    def send_odp_events(self, api_key, api_host, events):
        self.entered.set()
        assert self.opened.wait(60)
        return False


def test_what_a_full_queue_does_not_take_is_dropped(make, monkeypatch):
    monkeypatch.setattr(events.OdpEventManagerConfig, "DEFAULT_QUEUE_CAPACITY", 2)
    client = make("https://odp.invalid", api_manager=(slow := Slow()), flush_interval=0)
    send(client, 1)
    assert slow.entered.wait(20)

    send(client, 5)

    assert odp_book_of(client) == EventBook(accepted=6, dropped=3, pending=3)
    slow.opened.set()
    client.odp_manager.event_manager.event_queue.join()
    client.close()
    assert odp_book_of(client) == EventBook(accepted=6, dispatched=3, dropped=3)


class Broken:
    def send_odp_events(self, api_key, api_host, events):
        msg = "no such method"
        raise AttributeError(msg)


def test_what_an_api_raises_at_is_dropped(make):
    client = make("https://odp.invalid", api_manager=Broken(), flush_interval=60)
    send(client, 2)

    client.close()

    assert odp_book_of(client) == EventBook(accepted=2, dropped=2)


def test_its_metrics_have_a_label_of_their_own_from_zero_on(make, sink, seen):
    client = make(f"{sink.url}/status/202", flush_interval=60)

    def value(metric, **labels):
        return seen.value(f"wirewitness.events.{metric}", processor="odp", **labels)

    before = value("accepted"), value("settled", outcome="dispatched")
    assert {value("settled", outcome=outcome) >= 0 for outcome in ("dropped", "abandoned")} == {True}
    send(client, 2)
    client.close()
    assert (value("accepted"), value("settled", outcome="dispatched")) == (before[0] + 2, before[1] + 2)
    assert value("pending") == 0


def test_a_client_with_odp_disabled_has_no_book_of_it(datafile, seen):
    settings = sdk_settings.OptimizelySdkSettings(odp_disabled=True)
    client = instrument(Optimizely(datafile, event_dispatcher=Nowhere(), settings=settings), **seen.options)

    with pytest.raises(ConfigurationError, match="has no ODP events"):
        odp_book_of(client)
    client.close()


def test_uninstrumenting_gives_the_api_back(make, sink):
    client = make(f"{sink.url}/status/202", flush_interval=60)
    manager = client.odp_manager.event_manager
    assert "send_odp_events" in vars(manager.api_manager)

    uninstrument(client)

    assert "send_odp_events" not in vars(manager.api_manager)
    assert not {"dispatch", "stop", "_flush_batch"} & set(vars(manager))
