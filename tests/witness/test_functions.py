"""
A wrapped function, method or any other callable dispatches as before.
"""

from __future__ import annotations

import functools
import json

from urllib.parse import urlsplit

import pytest
import requests

from dispatchers import DELIVERED, PARAMS, RETURNED, WithClass, WithInstance, classic, ended, post, send

from wirewitness import (
    Verdict,
    ledger_of,
    witness,
)
from wirewitness.testing import capture


def test_a_function_of_an_event_dispatches(event):
    with capture() as dispatches:
        assert witness(send)(event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].name == "send"


@pytest.mark.parametrize("name", ["dispatchEvent", "dispatch", "dispatch_event"])
def test_a_function_of_any_name_dispatches(name, event):
    def inner(event):
        return send(event)

    inner.__name__ = name
    with capture() as dispatches:
        assert witness(inner)(event=event) is RETURNED
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].name == name


def renamed(method, endpoint, body):
    return post(endpoint, json.dumps(body), method)


def test_a_function_of_three_arguments_dispatches(url):
    wrapped = witness(classic)
    with capture() as dispatches:
        wrapped("POST", url, PARAMS)
        wrapped("POST", url=url, params=PARAMS)
        wrapped(params=PARAMS, url=url, http_verb="POST")
        witness(renamed)("PUT", body=PARAMS, endpoint=url)
    assert ended(dispatches) == DELIVERED * 4
    assert [dispatch.method for dispatch in dispatches] == ["POST", "POST", "POST", "PUT"]


def test_a_get_is_judged_by_its_query(url):
    @witness
    def ask(http_verb, url, params):
        with requests.Session() as session:
            return session.request(http_verb, url, params=params, timeout=10).status_code

    with capture() as dispatches:
        assert ask("GET", f"{url}?own=0", {"a": [1, None, "x y"]}) == 204
    assert ended(dispatches) == DELIVERED
    assert dispatches[0].payload.body == b"own=0&a=1&a=x+y"


def test_a_bound_method_dispatches_under_its_classs_name(event):
    inner = WithInstance()
    with capture() as dispatches:
        assert witness(inner.dispatch_event)(event) is RETURNED
        assert witness(WithClass.dispatch_event)(event) is RETURNED
    assert ended(dispatches) == DELIVERED * 2
    assert [dispatch.name for dispatch in dispatches] == ["WithInstance", "WithClass"]
    assert inner.last is event


def test_a_partial_dispatches(url, event):
    with capture() as dispatches:
        assert witness(functools.partial(send))(event) is RETURNED
        witness(functools.partial(send, event), payload=lambda: event.params)()
    assert ended(dispatches) == DELIVERED * 2


def test_a_method_is_decorated_in_its_class(event):
    class Mine:
        @witness
        def dispatch_event(self, event):
            self.last = event
            return send(event)

        @witness(name="second")
        def dispatch(self, http_verb, url, params):
            return post(url, json.dumps(params), http_verb)

        @witness
        @staticmethod
        def static(event):
            return send(event)

        @staticmethod
        @witness
        def inside(event):
            return send(event)

        @witness
        @classmethod
        def by_class(cls, event):
            assert cls is Mine
            return send(event)

    mine = Mine()
    with capture() as dispatches:
        assert mine.dispatch_event(event) is RETURNED
        assert mine.dispatch("POST", event.url, PARAMS) == 204
        for method in (Mine.static, mine.static, Mine.inside, Mine.by_class, mine.by_class):
            assert method(event) is RETURNED
    assert ended(dispatches) == DELIVERED * 7
    assert mine.last is event
    assert ledger_of(mine.dispatch).name == "second"
    assert ledger_of(Mine.by_class).name == "by_class"


def test_any_callable_is_told_by_argument_names(url):
    @witness(payload="body", url="to")
    def publish(topic, body, *, to, retries=0):
        return post(to, body)

    with capture() as dispatches:
        assert publish("topic", b"raw bytes", to=url) == 204
        assert publish(topic="topic", to=url, body="text") == 204
    assert ended(dispatches) == DELIVERED * 2
    assert dispatches[0].target == ("http", "127.0.0.1", urlsplit(url).port, "/v1/events")


def test_any_callable_is_told_by_callables(url):
    def publish(message):
        return post(message["to"], message["bytes"])

    wrapped = witness(publish, payload=lambda message: message["bytes"], url=lambda message: message["to"])
    with capture() as dispatches:
        assert wrapped({"to": url, "bytes": b"raw"}) == 204
    assert ended(dispatches) == DELIVERED


def test_a_method_is_told_by_argument_names(url):
    class Publisher:
        def dispatch(self, topic, body):
            return post(url, body)

    with capture() as dispatches:
        assert witness(Publisher, payload="body")().dispatch("t", b"x") == 204
        assert witness(Publisher(), payload="body").dispatch("t", body=b"x") == 204
    assert ended(dispatches) == DELIVERED * 2


def test_another_encoder_says_what_is_meant(event):
    def compact(params):
        return json.dumps(params, separators=(",", ":"))

    def inner(event):
        return post(event.url, compact(event.params))

    with capture() as dispatches:
        witness(inner)(event)
        witness(inner, encode=compact)(event)
    assert [dispatch.verdict for dispatch in dispatches] == [Verdict.EQUIVALENT, Verdict.IDENTICAL]
