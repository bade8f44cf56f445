"""
The datafile is served from memory, renewed behind everybody's back, and never replaced by something worse.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import urllib.request

from pathlib import Path

import pytest
import requests

from optimizely.helpers.enums import NotificationTypes

from wirewitness import ConfigurationError, witness
from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.optimizely import CachedConfigManager, DatafileSource, Fault, Fetched
from wirewitness.optimizely.datafile_fetch import may_follow
from wirewitness.testing import capture


def decided(client, visitor="ada"):
    return client.create_user_context(visitor).decide("new_checkout", ["DISABLE_DECISION_EVENT"]).variation_key


@pytest.fixture
def client(manage, close):
    """
    A client with a config manager, that is closed at the test's end.
    """
    clients = []

    def make(**options):
        clients.append(manage(**options).client())
        return clients[-1]

    yield make
    for one in clients:
        close(one)


BAD = {
    "html": (lambda cdn: cdn.html, Fault.NOT_JSON),
    "half a datafile": (lambda cdn: cdn.text('{"version": "4", "revi'), Fault.NOT_JSON),
    "nothing": (lambda cdn: cdn.text(""), Fault.NOT_JSON),
    "nested without end": (lambda cdn: cdn.text("[" * 100_000), Fault.NOT_JSON),
    "not utf-8": (lambda cdn: lambda request: cdn.respond(request, 200, b"\xff\xfe\xfd"), Fault.NOT_JSON),
    "a list": (lambda cdn: cdn.text("[]"), Fault.NOT_DATAFILE),
    "another object": (lambda cdn: cdn.text('{"error": "not found"}'), Fault.NOT_DATAFILE),
    "less than the schema wants": (
        lambda cdn: cdn.text('{"version": "4", "projectId": "9400000000002"}'),
        Fault.NOT_DATAFILE,
    ),
    "a wrong version": (lambda cdn: cdn.text('{"version": "5", "projectId": "9400000000002"}'), Fault.VERSION),
    "another project": (lambda cdn: cdn.text('{"version": "4", "projectId": "1"}'), Fault.PROJECT),
    "cut off": (lambda cdn: cdn.truncated, Fault.TRUNCATED),
    "404": (lambda cdn: cdn.status(404), Fault.STATUS),
    "500": (lambda cdn: cdn.status(500), Fault.STATUS),
    "304 that nobody asked for": (lambda cdn: cdn.status(304), Fault.STATUS),
    "redirects without end": (lambda cdn: cdn.redirect_loop, Fault.REDIRECTS),
    "a redirect to a file": (lambda cdn: cdn.status(302, Location="file:///etc/passwd"), Fault.REDIRECTS),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_datafile_leaves_the_last_good_one_served(bad, cdn, client, fetches, faults):
    one = client(project_id="9400000000002")
    before = decided(one)
    answer, fault = BAD[bad]
    cdn.answer = answer(cdn)
    if bad.startswith("304"):
        one.config_manager._held = None

    fetch = fetches.next(one.config_manager)

    assert (fetch.outcome, fetch.fault) == (Fetched.FAILED, fault)
    assert faults(fault.value) == 1
    if not bad.startswith("304"):
        assert (decided(one), one.config_manager.source) == (before, DatafileSource.CDN)


@pytest.mark.parametrize("bad", BAD)
def test_the_fallback_is_served_where_there_was_never_a_good_one(bad, cdn, client, project):
    cdn.answer = BAD[bad][0](cdn)
    one = client(project_id="9400000000002", fallback=json.dumps(project | {"revision": "1"}))

    assert decided(one) in {"one_page", "three_pages"}
    assert one.get_optimizely_config().revision == "1"
    assert one.config_manager.source is DatafileSource.FALLBACK


@pytest.mark.processes
@pytest.mark.parametrize("slow", ["hang", "drip", "drip_without_length", "drip_head"])
def test_a_server_that_takes_for_ever_is_given_up(slow, cdn, manage, datafile, fetches):
    cdn.answer = getattr(cdn, slow)
    manager = manage(timeout=0.5, fallback=datafile)

    assert fetches.wait_for(1)
    assert (fetches[0].fault, fetches[0].error_type, manager.source) == (
        Fault.TIMEOUT,
        "timeout",
        DatafileSource.FALLBACK,
    )


@pytest.mark.processes
@pytest.mark.parametrize("slow", ["hang", "drip", "drip_head"])
def test_a_server_that_takes_for_ever_is_given_up_over_tls_too(slow, secure_cdn, manage, fetches):
    secure_cdn.answer = getattr(secure_cdn, slow)
    manage(url=secure_cdn.url, timeout=1)
    assert fetches.wait_for(1)
    assert fetches[0].fault is Fault.TIMEOUT


def test_a_datafile_comes_over_tls(secure_cdn, manage):
    assert manage(url=secure_cdn.url).get_config().revision == "7"


def test_a_certificate_of_nobody_that_is_known_is_not_taken(secure_cdn, manage, fetches, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert manage(url=secure_cdn.url).get_config() is None
    assert (fetches[0].fault, fetches[0].error_type) == (Fault.CONNECTION, "SSLError")


def test_a_redirect_from_https_to_http_is_not_followed(secure_cdn, cdn, manage, fetches):
    secure_cdn.answer = secure_cdn.status(302, Location=cdn.url)
    assert manage(url=secure_cdn.url).get_config() is None
    assert (fetches[0].fault, cdn.requests) == (Fault.REDIRECTS, [])


FOLLOWED = {
    "https to https elsewhere": ("https://cdn.example/a.json", "https://other.example/b.json"),
    "http to itself": ("http://cdn.example/a.json", "http://cdn.example:80/b.json"),
    "http to its own https": ("http://cdn.example/a.json", "https://cdn.example/a.json"),
}
NOT_FOLLOWED = {
    "https to http": ("https://cdn.example/a.json", "http://cdn.example/a.json"),
    "http to another host": ("http://cdn.example/a.json", "http://169.254.169.254/latest/meta-data"),
    "http to https elsewhere": ("http://cdn.example/a.json", "https://other.example/a.json"),
    "http to another port": ("http://cdn.example/a.json", "http://cdn.example:9200/a.json"),
    "a subdomain": ("http://cdn.example/a.json", "http://cdn.example.other.example/a.json"),
    "user info": ("https://cdn.example/a.json", "https://user:password@cdn.example/a.json"),
    "two hosts in one": ("http://cdn.example/a.json", "http://other.example\\@cdn.example/a.json"),
    "a port that is none": ("https://cdn.example/a.json", "https://cdn.example:port/a.json"),
    "a file": ("https://cdn.example/a.json", "file:///etc/passwd"),
    "no host": ("https://cdn.example/a.json", "https:///a.json"),
}


@pytest.mark.parametrize("pair", FOLLOWED)
def test_a_redirect_that_stays_as_safe_as_it_was_may_be_followed(pair):
    assert may_follow(*FOLLOWED[pair])


@pytest.mark.parametrize("pair", NOT_FOLLOWED)
def test_a_redirect_that_leaves_https_or_a_plain_host_is_not_followed(pair):
    assert not may_follow(*NOT_FOLLOWED[pair])


def test_a_redirect_from_plain_http_to_its_own_https_is_followed(secure_cdn, cdn, manage):
    cdn.answer = cdn.status(301, Location=secure_cdn.url)
    assert manage().get_config().revision == "7"


def test_a_redirect_from_plain_http_to_another_host_is_not_followed(cdn, manage, fetches):
    cdn.answer = cdn.status(302, Location=cdn.url.replace("127.0.0.1", "localhost"))
    assert manage().get_config() is None
    assert (fetches[0].fault, len(cdn.requests)) == (Fault.REDIRECTS, 1)


def test_it_goes_through_the_environment_s_proxy_and_ends_in_time_there_too(cdn, manage, fetches, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", cdn.url.partition("/datafiles")[0])
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    manager = manage(url="http://cdn.invalid/datafiles/an-sdk-key.json", timeout=1)
    assert manager.get_config().revision == "7"
    assert cdn.requests[0][0] == "http://cdn.invalid/datafiles/an-sdk-key.json"
    cdn.answer = cdn.drip_without_length
    manager.stop()
    manager = manage(url="http://cdn.invalid/datafiles/an-sdk-key.json", timeout=0.5)
    assert manager.get_config() is None
    assert fetches.wait_for(2)
    assert fetches[1].fault is Fault.TIMEOUT


def test_a_server_that_is_gone_leaves_the_last_good_one_served(cdn, manage, fetches):
    manager = manage()
    assert manager.get_config() is not None
    cdn.close()

    fetch = fetches.next(manager)
    assert (fetch.fault, fetch.status) == (Fault.CONNECTION, None)
    assert (manager.get_config().revision, manager.source) == ("7", DatafileSource.CDN)


def test_a_datafile_that_is_too_long_is_not_taken(cdn, manage, datafile, fetches):
    manage(most_bytes=len(datafile) - 1)
    assert fetches.wait_for(1)
    assert fetches[0].fault is Fault.TOO_LARGE


def test_a_datafile_that_the_sdk_stumbles_over_is_not_taken(cdn, manage, project, fetches):
    manager = manage()
    assert manager.get_config() is not None
    project["featureFlags"][0]["experimentIds"] = ["no such experiment"]
    cdn.publish(project)

    assert fetches.next(manager).fault is Fault.NOT_DATAFILE
    assert manager.get_config().revision == "7"


def test_a_new_revision_is_served_and_the_client_s_listeners_hear_of_it(cdn, client, project):
    one = client()
    assert one.get_optimizely_config().revision == "7"
    heard = threading.Event()
    one.notification_center.add_notification_listener(NotificationTypes.OPTIMIZELY_CONFIG_UPDATE, heard.set)

    cdn.publish(project | {"revision": "8"})
    one.config_manager.refresh()

    assert heard.wait(20)
    assert one.get_optimizely_config().revision == one.config_manager.get_config().revision == "8"


def test_an_older_revision_is_served_for_somebody_has_rolled_back(cdn, manage, project, fetches):
    manager = manage()
    assert manager.get_config().revision == "7"
    cdn.publish(project | {"revision": "6"})

    assert fetches.next(manager).outcome is Fetched.UPDATED
    assert manager.get_config().revision == "6"


def test_what_has_not_changed_is_not_sent_again_nor_parsed(cdn, manage, fetches):
    manager = manage()
    config = manager.get_config()

    fetch = fetches.next(manager)

    assert (fetch.outcome, fetch.status) == (Fetched.UNCHANGED, 304)
    headers = cdn.requests[1][1]
    assert headers["If-None-Match"].startswith('"')
    assert headers["If-Modified-Since"] == "Tue, 24 Nov 2026 09:00:00 GMT"
    assert manager.get_config() is config


def test_the_same_bytes_again_are_not_parsed_again(cdn, manage, fetches, datafile):
    cdn.answer = cdn.text(datafile)
    manager = manage()
    config = manager.get_config()

    fetch = fetches.next(manager)
    assert (fetch.outcome, fetch.status) == (Fetched.UNCHANGED, 200)
    assert manager.get_config() is config


def test_it_is_renewed_by_itself_when_it_has_expired(cdn, manage, project, fetches):
    manager = manage(expires=0.05)
    assert fetches.wait_for(3)
    cdn.publish(project | {"revision": "8"})
    assert fetches.wait_for(len(fetches) + 2)
    assert manager.get_config().revision == "8"


def test_a_decision_does_not_wait_for_a_renewal(cdn, client):
    one = client(expires=0.01)
    before = decided(one)
    cdn.answer = cdn.hang
    one.config_manager.refresh()
    assert cdn.wait_for(len(cdn.requests) + 1)

    # The server hangs until this test lets it go: were this to wait, it would never end.
    assert decided(one) == before
    assert not cdn.released.is_set()


def test_without_waiting_the_first_decision_is_made_by_the_fallback(cdn, client, datafile):
    cdn.answer = cdn.hang
    one = client(fallback=datafile, wait=False)
    assert decided(one) in {"one_page", "three_pages"}
    assert one.config_manager.source is DatafileSource.FALLBACK


def test_the_first_decision_waits_for_the_first_fetch_and_only_so_long(cdn, client, fetches):
    cdn.answer = cdn.hang
    one = client(timeout=0.3)
    assert one.config_manager.get_config() is None
    assert decided(one) is None
    cdn.answer = cdn.published
    cdn.released.set()
    assert fetches.next(one.config_manager).outcome is Fetched.UPDATED
    assert decided(one) is not None


def test_many_threads_that_begin_at_once_make_one_request(cdn, manage, fetches):
    entered, hold = threading.Barrier(9), threading.Event()

    def slowly(request):
        hold.wait(20)
        cdn.published(request)

    cdn.answer = slowly
    manager = manage()
    found = []

    def ask():
        entered.wait(20)
        found.append(manager.get_config())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    entered.wait(20)
    hold.set()
    for thread in threads:
        thread.join()
    assert [config.revision for config in found] == ["7"] * 8
    assert len(cdn.requests) == 1


def test_a_fallback_may_be_a_path_bytes_or_a_callable(cdn, manage, datafile, tmp_path):
    cdn.answer = cdn.status(500)
    path = tmp_path / "fallback.json"
    path.write_text(datafile)
    for fallback in (path, str(path), datafile.encode(), lambda: datafile):
        manager = manage(fallback=fallback)
        assert (manager.get_config().revision, manager.source) == ("7", DatafileSource.FALLBACK)


@pytest.mark.parametrize("wrong", ["<html>", 1, None], ids=["html", "a number", "nothing"])
def test_a_callable_fallback_that_gives_no_datafile_is_counted(wrong, cdn, manage, fetches, faults):
    cdn.answer = cdn.status(500)
    manager = manage(fallback=lambda: wrong)
    assert manager.get_config() is None
    assert fetches.wait_for(1)
    assert faults("fallback") == 1


def test_what_hooks_raise_reaches_nobody(cdn, manage, datafile):
    def broken(*_):
        msg = "a hook"
        raise RuntimeError(msg)

    cdn.answer = cdn.status(500)
    before = INTERNAL_ERRORS.counts()["hook"]
    manager = manage(fallback=broken, on_fetch=broken)
    assert manager.get_config() is None
    manager.stop()
    assert INTERNAL_ERRORS.counts()["hook"] >= before + 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "an sdk_key or a url"),
        ({"sdk_key": "k", "url_template": "http://cdn/{sdk_key}/{other}"}, "url_template="),
        ({"url": "ftp://cdn/datafile.json"}, "must begin with http"),
        ({"url": "https:///datafile.json"}, "name a host"),
        ({"url": "http://cdn:port/datafile.json"}, "name a host"),
        ({"url": 7}, "name a host"),
        ({"sdk_key": "k", "cache_path": 7}, "cache_path=7: must be a path"),
        ({"sdk_key": "k", "fallback": 7}, "fallback=7: it is no path"),
        ({"sdk_key": "k", "fallback": "/no\0path"}, "fallback=a str of 8 characters: it is no path"),
        ({"sdk_key": "k", "fallback": "/dev/null"}, "no regular file"),
        ({"sdk_key": "k", "fallback": Path("/no/such/file")}, "fallback='/no/such/file': No such file"),
        ({"sdk_key": "k", "expires": 0}, "expires=0: must be"),
        ({"sdk_key": "k", "timeout": "10"}, "timeout=a str of 2 characters: must be"),
        ({"sdk_key": "k", "jitter": 1}, "jitter=1: must be"),
        ({"sdk_key": "k", "on_fetch": 1}, "on_fetch=1: must be"),
        ({"sdk_key": "k", "fallback": "{}"}, "fallback: not_datafile"),
        ({"sdk_key": "k", "fallback": ""}, "fallback: not_json"),
        ({"sdk_key": "k", "fallback": "/no/such/file"}, "No such file"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(options, said):
    with pytest.raises(ConfigurationError, match=said):
        CachedConfigManager(**options)


def test_the_url_is_made_of_the_sdk_key(cdn, manage):
    manager = manage(sdk_key="my-key", url_template=cdn.template)
    assert manager.get_config() is not None
    assert cdn.requests[0][0] == "/datafiles/my-key.json"
    assert manager.get_sdk_key() == "my-key"


def test_the_sdk_key_is_the_datafile_s_where_only_a_url_is_known(manage):
    assert manage().get_sdk_key() == "an-sdk-key"


def test_an_access_token_goes_to_the_url_s_own_host_only(secure_cdn, manage, fetches):
    def away(request):
        elsewhere = secure_cdn.url.replace("127.0.0.1", "localhost")
        secure_cdn.answer = secure_cdn.published
        secure_cdn.respond(request, 302, b"", Location=elsewhere)

    secure_cdn.answer = away
    manage(url=secure_cdn.url, datafile_access_token="secret")
    assert fetches.wait_for(1)
    assert fetches[0].outcome is Fetched.UPDATED
    sent = [headers.get("Authorization") for _, headers in secure_cdn.requests]
    assert sent == ["Bearer secret", None]


def test_a_renewal_comes_earlier_at_random_and_a_failed_one_is_tried_again_soon(manage, cdn, fetches):
    manager = manage(expires=900, jitter=0.2)
    assert fetches.wait_for(1)
    delays = [manager._supply.delay(manager._held) for _ in range(200)]
    assert 0.79 * 900 <= min(delays) < max(delays) <= 900
    assert len(set(delays)) > 100

    cdn.answer = cdn.status(503)
    for most in (5, 10, 20):
        fetches.next(manager)
        assert most / 2 <= manager._supply.delay(manager._held) <= most


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_died_is_started_again(manage, fetches):
    def deadly(fetch):
        fetches(fetch)
        if len(fetches) == 1:
            raise SystemExit

    manager = manage(on_fetch=deadly)
    assert fetches.wait_for(1)
    manager._refresher._thread.join(20)
    manager._refresher.overdue = 0.0  # a minute later
    assert manager.get_config() is not None
    assert fetches.wait_for(2)


def test_a_stopped_one_serves_on_and_asks_no_more(cdn, manage):
    manager = manage(expires=0.02)
    assert manager.get_config() is not None
    manager.stop()
    asked = len(cdn.requests)
    manager.refresh()
    assert manager.get_config().revision == "7"
    assert not manager._refresher._thread.is_alive()
    assert len(cdn.requests) == asked


def test_one_that_was_stopped_grows_no_older_in_metrics_and_its_successor_is_shown(manage, seen):
    of = {"datafile": "replaced"}
    first = manage(name="replaced")
    assert first.get_config() is not None
    first._held = dataclasses.replace(first._held, confirmed=0.0)
    assert seen.value("wirewitness.datafile.age", **of) > 1000
    first.stop()
    assert manage(name="replaced").get_config() is not None
    assert seen.value("wirewitness.datafile.age", **of) < 1000
    assert seen.value("wirewitness.datafile.source", source="cdn", **of) == 1


def test_stopping_ends_a_fetch_that_goes_on_and_tells_nobody(cdn, manage, fetches):
    cdn.answer = cdn.hang
    manager = manage(wait=False)
    assert cdn.wait_for(1)
    manager.stop()
    assert not manager._refresher._thread.is_alive()
    assert manager.get_config() is None
    assert fetches == []


def test_one_that_nobody_holds_any_more_is_gone(cdn, fetches):
    import gc
    import weakref

    manager = CachedConfigManager(url=cdn.url, on_fetch=fetches, name="forgotten")
    assert manager.get_config() is not None
    thread, gone = manager._refresher._thread, weakref.ref(manager)
    refresher = manager._refresher
    del manager
    assert fetches.wait_for(1)
    refresher._due = 0
    refresher._wake.set()
    thread.join(20)
    gc.collect()
    assert gone() is None
    assert not thread.is_alive()


def test_faults_are_logged_once_a_kind_and_without_the_sdk_key(cdn, manage, fetches, caplog, datafile):
    caplog.set_level(logging.INFO, "wirewitness")
    cdn.answer = cdn.html
    manager = manage(fallback=datafile)
    assert fetches.wait_for(1)
    for _ in range(3):
        fetches.next(manager)
    cdn.answer = cdn.status(500)
    fetches.next(manager)
    cdn.answer = cdn.published
    fetches.next(manager)

    lines = [record.getMessage() for record in caplog.records if record.name == "wirewitness"]
    assert ["not_json" in line for line in lines if "datafile.fault" in line] == [True, False]
    assert all("serving=fallback" in line for line in lines if "datafile.fault" in line)
    assert not any("an-sdk-key" in line or "127.0.0.1" in line for line in lines)


def test_every_fault_is_counted_from_zero(manage, seen, request):
    manage()
    points = seen.points("wirewitness.datafile.faults", datafile=request.node.name)
    assert {point.attributes["reason"]: point.value for point in points} == {
        fault.value: 0 for fault in Fault if fault is not Fault.NONE
    }


def test_gauges_show_age_revision_and_source(cdn, manage, seen, fetches, datafile):
    of = {"datafile": "gauging"}
    cdn.answer = cdn.status(500)
    manager = manage(name="gauging", fallback=datafile)
    assert fetches.wait_for(1)
    manager._began -= 1000
    assert seen.value("wirewitness.datafile.age", **of) >= 1000
    assert seen.value("wirewitness.datafile.source", source="fallback", **of) == 1
    assert seen.value("wirewitness.datafile.source", source="cdn", **of) == 0

    cdn.answer = cdn.published
    fetches.next(manager)
    assert seen.value("wirewitness.datafile.age", **of) < 1000
    assert seen.value("wirewitness.datafile.revision", **of) == 7
    assert seen.value("wirewitness.datafile.source", source="cdn", **of) == 1


def test_a_revision_that_is_no_number_shows_as_0(cdn, manage, seen, project, request):
    cdn.publish(project | {"revision": "draft"})
    manager = manage()
    assert manager.get_config().revision == "draft"
    assert seen.value("wirewitness.datafile.revision", datafile=request.node.name) == 0


def test_fetches_have_spans_and_durations_and_the_sdk_key_is_in_none(cdn, manage, seen, fetches, request):
    manager = manage()
    assert fetches.wait_for(1)
    cdn.answer = cdn.status(503)
    fetches.next(manager)

    good, bad = [span for span in seen.spans if span.name == f"datafile {request.node.name}"]
    assert good.attributes["wirewitness.datafile.outcome"] == "updated"
    assert good.attributes["wirewitness.datafile.revision"] == "7"
    assert (bad.attributes["http.response.status_code"], bad.attributes["error.type"]) == (503, "503")
    assert (good.status.is_ok, bad.status.is_ok, bad.status.description) == (True, False, "status")
    assert "an-sdk-key" not in "".join(span.to_json() for span in seen.spans)
    points = seen.points("wirewitness.datafile.fetch.duration", datafile=request.node.name)
    assert [dict(point.attributes) for point in sorted(points, key=lambda one: one.attributes["outcome"])] == [
        {"datafile": request.node.name, "outcome": "failed", "http.response.status_code": 503, "error.type": "503"},
        {"datafile": request.node.name, "outcome": "updated", "http.response.status_code": 200},
    ]


def test_a_fetch_shows_in_no_other_instrumentation_and_carries_no_trace(cdn, manage, seen, fetches):
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    RequestsInstrumentor().instrument(tracer_provider=seen.tracer_provider)
    try:
        manage()
        assert fetches.wait_for(1)
    finally:
        RequestsInstrumentor().uninstrument()
    assert [span.name for span in seen.spans if not span.name.startswith("datafile ")] == []
    assert "traceparent" not in {name.lower() for name in cdn.requests[0][1]}


def test_a_fetch_is_no_payload_of_any_dispatcher(cdn, manage, fetches, sink):
    manager = manage(url=f"{cdn.url}?a=1")
    assert fetches.wait_for(1)
    sent = threading.Event()

    @witness(name="asynchronous")
    def dispatch(http_verb, url, params):
        threading.Thread(
            target=lambda: sent.wait(20) and urllib.request.urlopen(f"{url}?a=1", timeout=5).close()
        ).start()

    with capture() as dispatches:
        # Waits for a GET with just this query; the datafile's is none of its evidence.
        dispatch("GET", f"{sink.url}/v1/events", {"a": "1"})
        assert fetches.next(manager).outcome is Fetched.UNCHANGED
        assert dispatches == []
        sent.set()
    (settled,) = dispatches
    assert [exchange.port for exchange in settled.exchanges] == [sink.port]


def test_a_dispatcher_that_makes_a_manager_is_not_taken_for_the_one_who_fetches(cdn, manage, fetches, sink):
    @witness(name="making")
    def dispatch(http_verb, url, params):
        manage()
        assert fetches.wait_for(1)
        requests.post(url, json=params, timeout=5)

    with capture() as dispatches:
        dispatch("POST", f"{sink.url}/v1/events", {"a": 1})
    assert [exchange.port for exchange in dispatches[0].exchanges] == [sink.port]
