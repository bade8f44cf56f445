"""
An experiment runs the callable that the SDK chooses, and its primary where there's no choice; the SDK itself breaks nothing.
"""

from __future__ import annotations

import asyncio
import html.parser
import logging
import threading

from unittest import mock

import pytest

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from optimizely.optimizely import Optimizely

from wirewitness import ConfigurationError
from wirewitness.optimizely import Experiment, current_visitor, experiment, feature, visitor
from wirewitness.telemetry.datafile import DatafileGauges, DatafileSource, DatafileTelemetry, Fault
from wirewitness.telemetry.decisions import decisions_on
from wirewitness.telemetry.events import totals_of
from wirewitness.telemetry.experiments import ExperimentFault, ExperimentTelemetry


class Dispatcher:
    """
    Keeps what it's given. To be used as an instance.
    """

    def __init__(self):
        self.events = []
        self._grown = threading.Condition()

    def dispatch_event(self, event):
        with self._grown:
            self.events.append(event)
            self._grown.notify_all()


@pytest.fixture
def dispatcher():
    return Dispatcher()


@pytest.fixture
def client(datafile, dispatcher, close):
    """
    A client without a network. Closing it sends what is left.
    """
    one = Optimizely(datafile, event_dispatcher=dispatcher)
    yield one
    close(one)


@pytest.fixture
def checkout(client):
    return declared(experiment(client, "checkout_test", by="get_variation"))


def declared(one):
    one.variation("three_pages", lambda: "three", primary=True)
    one.variation("one_page", lambda: "one")
    return one


class Broken:
    """
    A client all of whose methods raise.
    """

    def __getattr__(self, name):
        def method(*_):
            raise RuntimeError(name)

        return method


class Fixed:
    """
    A client that always says the same.
    """

    def __init__(self, answer):
        self._answer = answer

    def activate(self, *_):
        return self._answer

    get_variation = is_feature_enabled = activate


def bucketed(client, key, wanted):
    """
    A visitor who gets this variation.
    """
    return next(who for who in map(str, range(1000)) if client.get_variation(key, who) == wanted)


@pytest.mark.parametrize("by", ["activate", "get_variation", "decide"])
@pytest.mark.parametrize("wanted", ["three_pages", "one_page"])
def test_the_variation_runs_that_the_sdk_chooses(client, by, wanted):
    key = "new_checkout" if by == "decide" else "checkout_test"
    one = experiment(client, key, by=by)
    for name in ("three_pages", "one_page"):
        one.variation(name, lambda *args, name=name, **kwargs: (name, args, kwargs), primary=name == "three_pages")

    with visitor(bucketed(client, "checkout_test", wanted)):
        assert one(1, two=2) == (wanted, (1,), {"two": 2})


def test_a_variation_is_declared_by_a_decorator_too(client):
    one = experiment(client, "checkout_test")

    @one.variation("three_pages", primary=True)
    def three_pages(cart):
        return f"three pages of {cart}"

    @one.variation("one_page")
    def one_page(cart):
        return f"one page of {cart}"

    assert three_pages("a cart") == "three pages of a cart"
    with visitor(bucketed(client, "checkout_test", "one_page")):
        assert one("a cart") == "one page of a cart"


@pytest.mark.parametrize("key", ["paused_test", "no_such_test"])
@pytest.mark.parametrize("by", ["activate", "get_variation", "decide"])
def test_the_primary_runs_where_the_experiment_is_paused_or_unknown(client, key, by):
    one = experiment(client, key, by=by)
    one.variation("old", lambda: "old", primary=True)
    one.variation("new", lambda: "new")
    with visitor("ada"):
        assert one() == "old"


def test_the_primary_runs_where_the_client_has_no_datafile(datafile):
    with visitor("ada"):
        assert declared(experiment(Optimizely("<html>"), "checkout_test"))() == "three"


def test_the_primary_runs_where_nobody_is_the_visitor(client, seen, slips):
    one = declared(experiment(client, "checkout_test", **meter(seen)))
    before = slips("checkout_test", "no_visitor")
    assert one() == "three"
    with visitor(None):
        assert one() == "three"
    assert slips("checkout_test", "no_visitor") == before + 2


def test_the_primary_runs_and_it_is_counted_where_the_sdk_chooses_what_is_not_declared(seen, slips, served):
    one = declared(experiment(Fixed("a fourth"), "undeclared", **meter(seen)))
    with visitor("ada"):
        assert one() == "three"
    assert slips("undeclared", "unknown_variation") == 1
    assert served("undeclared", "three_pages", "primary") == 1


def test_what_the_sdk_raises_reaches_nobody_and_is_counted(seen, slips):
    with visitor("ada"):
        assert declared(experiment(Broken(), "broken", **meter(seen)))() == "three"
        assert declared(experiment(Broken(), "broken", by="decide", **meter(seen)))() == "three"
        assert declared(experiment(Broken(), "broken", **meter(seen))).tag() == ""
        assert feature(Broken(), "broken", **meter(seen)).enabled() is False
        assert feature(Broken(), "broken", **meter(seen)).integer("steps", 9) == 9
    assert slips("broken", "sdk_error") == 5


def test_what_a_variation_raises_reaches_the_caller(client):
    one = experiment(client, "checkout_test")
    one.variation("three_pages", lambda: 1 / 0, primary=True)
    one.variation("one_page", lambda: {}["missing"])
    with visitor(bucketed(client, "checkout_test", "three_pages")), pytest.raises(ZeroDivisionError):
        one()
    with visitor(bucketed(client, "checkout_test", "one_page")), pytest.raises(KeyError):
        one()


def test_without_a_primary_nothing_runs_where_nothing_is_chosen(client, seen, slips):
    one = experiment(client, "paused_test", **meter(seen))
    one.variation("new", lambda: "new")
    before = slips("paused_test", "no_primary")
    with visitor("ada"):
        assert one() is None
    assert slips("paused_test", "no_primary") == before + 1


async def test_a_variation_may_be_a_coroutine_function(client):
    one = experiment(client, "checkout_test")

    @one.variation("three_pages", primary=True)
    async def three_pages():
        await asyncio.sleep(0)
        return current_visitor().user_id

    one.variation("one_page", three_pages)

    async def request(who):
        with visitor(who):
            await asyncio.sleep(0)
            return await one()

    assert await asyncio.gather(*(request(who) for who in ("ada", "grace"))) == ["ada", "grace"]


def test_a_visitor_is_one_thread_s_and_one_block_s(client):
    found = []
    with visitor("ada", {"plan": "gold"}):
        with visitor("grace"):
            assert (current_visitor().user_id, current_visitor().attributes) == ("grace", {})
        other = threading.Thread(target=lambda: found.append(current_visitor()))
        other.start()
        other.join()
        assert current_visitor().attributes == {"plan": "gold"}
    assert current_visitor() is None
    assert found == [None]


def test_a_visitor_s_number_becomes_text_as_the_sdk_wants_it(client):
    with visitor(1234):
        assert current_visitor().user_id == "1234"
        assert declared(experiment(client, "checkout_test"))() in {"one", "three"}


def test_attributes_are_the_visitor_s_and_the_experiment_s_together_and_nobody_s_are_changed(seen):
    told = []

    class Told(Fixed):
        def activate(self, *asked):
            told.append(asked)
            asked[2]["more"] = "of the SDK's own"

    mine, its = {"plan": "gold"}, {"page": "cart"}
    one = declared(Experiment(Told(None), "told", attributes=its))
    with visitor("ada", mine):
        one()
        one()
    assert told[0] == ("told", "ada", {"plan": "gold", "page": "cart", "more": "of the SDK's own"})
    assert told[1][2].keys() == told[0][2].keys()
    assert (mine, its) == ({"plan": "gold"}, {"page": "cart"})


@pytest.mark.parametrize(("by", "impressions"), [("activate", 1), ("get_variation", 0), ("decide", 1)])
def test_the_methods_that_send_impressions_send_one(client, dispatcher, close, by, impressions):
    one = declared(experiment(client, "new_checkout" if by == "decide" else "checkout_test", by=by))
    with visitor("ada"):
        one()
        assert one.tag() != ""
    close(client)
    assert sum(len(event.params["visitors"]) for event in dispatcher.events) == impressions


@pytest.mark.parametrize("key", ["three_pages", "another"])
def test_a_second_declaration_is_refused(checkout, key):
    with pytest.raises(ConfigurationError, match="declared already"):
        checkout.variation(key, lambda: None, primary=True)


def test_a_method_that_the_sdk_does_not_have_is_refused(client):
    with pytest.raises(
        ConfigurationError, match="by=a str of 6 characters: must be one of activate, get_variation, decide"
    ):
        experiment(client, "checkout_test", by="choose")


# The tag.


class Inputs(html.parser.HTMLParser):
    """
    The inputs of a page.
    """

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_tag_tells_experiment_and_variation(client, checkout):
    with visitor(bucketed(client, "checkout_test", "one_page")):
        (found,) = Inputs(checkout.tag(evar=7)).found
    key = "checkout_test:one_page"
    assert found == (
        "input",
        {
            "type": "hidden",
            "name": f"ab_{key}",
            "id": f"ab_id_{key}",
            "value": "",
            "data-optimizely": key,
            "data-optimizely-evar": "7",
        },
    )


def test_the_tag_is_escaped():
    bad = "\"><script>alert('x')</script>&"
    one = declared(Experiment(Fixed(bad), bad))
    with visitor("ada"):
        tag = one.tag(evar=bad)
    assert "<script" not in tag
    ((name, attributes),) = Inputs(tag).found
    assert (name, attributes["data-optimizely"], attributes["data-optimizely-evar"]) == ("input", f"{bad}:{bad}", bad)


def test_there_is_no_tag_where_nothing_is_chosen(client):
    with visitor("ada"):
        assert declared(experiment(client, "paused_test")).tag() == ""


def test_a_template_does_not_escape_the_tag_again(client, checkout):
    with visitor("ada"):
        tag = checkout.tag()
    assert tag.__html__() == tag
    assert type(tag.__html__()) is str


# Features.


def test_a_feature_is_on_or_off(client):
    with visitor("ada"):
        assert feature(client, "new_checkout").enabled() is True
        assert feature(client, "dark_mode").enabled() is False
        assert feature(client, "no_such_feature").enabled() is False


def test_variables_have_their_types_and_the_variation_s_values(client):
    one = feature(client, "new_checkout")
    with visitor(bucketed(client, "checkout_test", "one_page")):
        found = one.string("title"), one.boolean("express"), one.integer("steps"), one.double("discount")
        assert found == ("Pay <here>", True, 1, 0.5)
        assert [type(value) for value in found] == [str, bool, int, float]
        assert one.json("banner") == {"colour": "blue"}


def test_a_variable_is_its_default_where_the_sdk_has_none_of_the_name_or_type(client, seen, slips):
    one = feature(client, "new_checkout", **meter(seen))
    before = slips("new_checkout", "no_value")
    with visitor("ada"):
        assert one.integer("title", 5) == 5
        assert one.string("no_such_variable", "default") == "default"
        assert one.json("no_such_variable") is None
    assert one.string("title", "for nobody") == "for nobody"
    assert slips("new_checkout", "no_value") == before + 4


# What is seen of it.


def meter(seen):
    return {"meter_provider": seen.meter_provider}


@pytest.fixture
def slips(seen):
    return lambda key, reason: sum(
        point.value for point in seen.points("wirewitness.experiment.faults", experiment=key, reason=reason)
    )


@pytest.fixture
def served(seen):
    def value(key, variation, chosen):
        return seen.value("wirewitness.experiment.served", experiment=key, variation=variation, chosen=chosen)

    return value


def test_what_is_served_is_counted_from_zero_and_put_on_the_current_span(client, seen, served):
    one = declared(experiment(Fixed("one_page"), "counted", **meter(seen)))
    assert [served("counted", name, who) for name in ("one_page", "three_pages") for who in ("sdk", "primary")] == [
        0
    ] * 4
    assert {
        point.attributes["reason"] for point in seen.points("wirewitness.experiment.faults", experiment="counted")
    } == {slip.value for slip in ExperimentFault}

    with seen.tracer_provider.get_tracer("test").start_as_current_span("request"), visitor("ada@example.com"):
        one()
        one()

    assert served("counted", "one_page", "sdk") == 2
    (span,) = seen.spans
    assert span.attributes["wirewitness.experiment.counted"] == "one_page"
    assert [dict(event.attributes) for event in span.events] == 2 * [
        {
            "wirewitness.experiment": "counted",
            "wirewitness.variation": "one_page",
            "wirewitness.chosen": "sdk",
        }
    ]
    assert "ada@example.com" not in span.to_json()


def test_a_feature_that_was_served_is_counted(seen, served):
    with visitor("ada"):
        feature(Fixed(True), "flag on", **meter(seen)).enabled()  # noqa: FBT003
        feature(Broken(), "flag broken", **meter(seen)).enabled()
    assert served("flag on", "on", "sdk") == 1
    assert served("flag broken", "off", "primary") == 1


def test_a_slip_is_logged_without_the_visitor(seen, caplog):
    caplog.set_level(logging.WARNING, "wirewitness")
    with visitor("ada@example.com"):
        declared(experiment(Fixed("a fourth"), "logged", **meter(seen)))()
    lines = [record.getMessage() for record in caplog.records if "experiment.fault" in record.getMessage()]
    assert all("ada@example.com" not in line for line in lines)


def test_variations_without_end_are_counted_as_others(seen):
    from wirewitness.telemetry import experiments

    many = experiment(Fixed(None), "endless", **meter(seen))
    before = experiments._variations
    experiments._variations = experiments.CardinalityLimit(most=3)
    try:
        for number in range(10):
            many.variation(f"variation {number}", lambda: None)
    finally:
        experiments._variations = before
    points = seen.points("wirewitness.experiment.served", experiment="endless")
    assert {point.attributes["variation"] for point in points} == {"_OTHER", *(f"variation {n}" for n in range(3))}


def test_each_meter_provider_sees_only_the_experiments_datafiles_and_events_that_were_given_to_it():
    readers = InMemoryMetricReader(), InMemoryMetricReader()
    providers = [MeterProvider([reader]) for reader in readers]
    for name, provider in zip(("of the first", "of the second"), providers, strict=True):
        ExperimentTelemetry(name, provider).slipped(ExperimentFault.NO_VALUE)
        totals_of(name, provider)
        decisions_on(provider).count("flag", name, "on", "", "default")
        datafile = mock.Mock(gauges=lambda: DatafileGauges(0.0, 1.0, DatafileSource.NONE))
        datafile.name = name
        DatafileTelemetry(datafile, meter_provider=provider).fault(Fault.TIMEOUT, None, DatafileSource.NONE)
    found = [
        {
            str(value)
            for resource in reader.get_metrics_data().resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            for value in point.attributes.values()
            if str(value).startswith("of the")
        }
        for reader in readers
    ]
    for provider in providers:
        provider.shutdown()
    assert found == [{"of the first"}, {"of the second"}]
