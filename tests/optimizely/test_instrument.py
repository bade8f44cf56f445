"""
A living client is observed wherever it holds a dispatcher, once, and given back as it was.
"""

from __future__ import annotations

import logging

import pytest
import requests

from optimizely.event.event_processor import BatchEventProcessor, ForwardingEventProcessor
from optimizely.optimizely import Optimizely

from wirewitness import ConfigurationError, Outcome, ledger_of, witness
from wirewitness.conformance import Sink
from wirewitness.optimizely import book_of, instrument, odp_book_of, uninstrument


# SDKs before 5 start their thread by a method that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:setDaemon:DeprecationWarning")


class Poster:
    """
    Posts every event to one URL.
    """

    def __init__(self, url):
        self._url = url

    def dispatch_event(self, event):
        requests.post(self._url, json=event.params, timeout=10)


class Nowhere:
    def dispatch_event(self, event):
        pass


class OneByOne(ForwardingEventProcessor):
    pass


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture
def client(datafile, sink, close):
    poster = Poster(f"{sink.url}/v1/events")
    client = Optimizely(datafile, event_dispatcher=poster, event_processor=OneByOne(poster))
    yield client
    uninstrument(client)
    close(client)


def test_an_event_of_an_instrumented_client_is_delivered_by_the_bytes_on_the_wire(client, sink, seen):
    assert instrument(client, **seen.options) is client

    client.track("order_placed", "ada")

    book = ledger_of(client.event_processor.event_dispatcher).book()
    assert (book.accepted, book.count(Outcome.DELIVERED)) == (1, 1)
    assert len(sink.requests) == 1


def test_one_dispatcher_in_two_places_is_one_witness(client, seen):
    instrument(client, **seen.options)

    assert ledger_of(client.event_dispatcher) is ledger_of(client.event_processor.event_dispatcher)


def test_a_processor_s_own_dispatcher_is_witnessed_under_its_own_name(datafile, sink, seen, close):
    client = Optimizely(
        datafile, event_dispatcher=Nowhere(), event_processor=ForwardingEventProcessor(Poster(sink.url))
    )
    instrument(client, **seen.options)

    client.track("order_placed", "ada")

    assert ledger_of(client.event_dispatcher).book().accepted == 0
    assert ledger_of(client.event_processor.event_dispatcher).book().accepted == 1
    close(client)


def test_instrumenting_twice_witnesses_and_counts_once(client, sink, seen):
    instrument(instrument(client, **seen.options), **seen.options)

    client.track("order_placed", "ada")

    assert len(sink.requests) == 1
    assert ledger_of(client.event_dispatcher).book().accepted == 1
    assert book_of(client).accepted == 1


def test_a_dispatcher_that_is_witnessed_already_is_not_witnessed_again(datafile, sink, seen, close):
    dispatcher = witness(Poster(sink.url), name="by hand", **seen.options)
    client = Optimizely(datafile, event_dispatcher=dispatcher, event_processor=ForwardingEventProcessor(dispatcher))

    instrument(client, **seen.options)
    client.track("order_placed", "ada")

    assert client.event_dispatcher is dispatcher
    assert dispatcher.ledger.book().accepted == 1
    close(client)


def attributes_of(client):
    processor, odp = client.event_processor, getattr(getattr(client, "odp_manager", None), "event_manager", None)
    listeners = {kind: list(given) for kind, given in client.notification_center.notification_listeners.items()}
    owners = (client, processor, getattr(processor, "event_queue", None), odp, getattr(odp, "event_queue", None))
    return listeners, [dict(vars(owner)) for owner in owners if owner is not None]


@pytest.mark.parametrize("kind", [ForwardingEventProcessor, BatchEventProcessor])
def test_uninstrumenting_gives_everything_back(datafile, kind, seen, close):
    dispatcher = Nowhere()
    client = Optimizely(datafile, event_dispatcher=dispatcher, event_processor=kind(dispatcher))
    before = attributes_of(client)

    instrument(client, **seen.options)
    assert attributes_of(client) != before
    assert uninstrument(uninstrument(client)) is client

    assert attributes_of(client) == before
    close(client)


def test_what_was_wrapped_once_more_meanwhile_stays_as_it_is(client, seen):
    instrument(client, **seen.options)
    mine = Nowhere()
    client.event_processor.event_dispatcher = mine

    uninstrument(client)

    assert client.event_processor.event_dispatcher is mine


def test_clients_that_share_a_processor_count_its_events_once_until_the_last_is_given_back(datafile, sink, seen, close):
    processor = OneByOne(Poster(sink.url))
    one, other = (Optimizely(datafile, event_processor=processor) for _ in range(2))
    instrument(one, **seen.options)
    instrument(other, **seen.options)

    one.track("order_placed", "ada")
    other.track("order_placed", "bob")
    assert (book_of(one), book_of(one).accepted) == (book_of(other), 2)

    uninstrument(one)
    other.track("order_placed", "ada")
    assert book_of(other).dispatched == 3
    uninstrument(other)
    assert isinstance(processor.event_dispatcher, Poster)
    assert "dispatch_event" not in vars(processor.event_dispatcher)
    for client in (one, other):
        close(client)


@pytest.mark.parametrize("given", [None, "a client", Optimizely, Nowhere()])
@pytest.mark.parametrize("function", [instrument, uninstrument, book_of, odp_book_of])
def test_what_is_no_client_is_named(function, given):
    with pytest.raises(ConfigurationError, match="is no Optimizely client") as raised:
        function(given)
    kind = given if isinstance(given, type) else type(given)
    assert ("None" if given is None else kind.__name__) in str(raised.value)


def test_an_option_that_witness_does_not_have_is_refused_and_nothing_is_put_into_place(client):
    before = attributes_of(client)

    with pytest.raises(ConfigurationError, match="no option nmae"):
        instrument(client, nmae="a typo")

    assert attributes_of(client) == before


def test_there_is_no_book_of_a_client_that_is_not_instrumented(client):
    with pytest.raises(ConfigurationError, match="is not instrumented: instrument"):
        book_of(client)


def test_a_client_with_a_processor_of_its_own_making_is_witnessed_and_has_no_book(datafile, sink, seen, close):
    class Processor:
        def __init__(self):
            self.event_dispatcher = Poster(sink.url)

        def process(self, user_event):
            """
            Sends nothing.
            """

    client = instrument(Optimizely(datafile, event_processor=Processor()), **seen.options)

    assert ledger_of(client.event_processor.event_dispatcher).book().accepted == 0
    with pytest.raises(ConfigurationError, match="no event processor that is counted"):
        book_of(client)
    uninstrument(client)
    assert type(client.event_processor.event_dispatcher) is Poster
    close(client)


def test_a_client_that_refused_its_own_options_can_be_instrumented(seen, close):
    logging.getLogger("optimizely.optimizely.Optimizely").propagate = False
    client = Optimizely("{}", error_handler=object())
    assert not client.is_valid

    instrument(client, **seen.options)

    assert ledger_of(client.event_dispatcher).book().accepted == 0
    uninstrument(client)
    close(client)
