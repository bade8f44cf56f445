"""
Putting the tap on and taking it off.
"""

from __future__ import annotations

import contextlib
import functools
import http.client

import pytest

from opentelemetry.instrumentation.utils import suppress_instrumentation
from seen import by_http_client, one

from wirewitness import Outcome, Verdict, wire, witness
from wirewitness._guard import INTERNAL_ERRORS
from wirewitness.wire.http_client import PATCH_POINTS, PatchPoint, Tap


class Spoken:
    def word(self):
        return "word"

    def other(self):
        return "other"


class Heir(Spoken):
    pass


def louder(original):
    @functools.wraps(original)
    def wrapper(self):
        return original(self).upper()

    return wrapper


POINT = PatchPoint(__name__, "Spoken", "word", louder)
MOVED = PatchPoint(__name__, "Spoken", "gone", louder)


@pytest.fixture
def original():
    function = Spoken.__dict__["word"]
    yield function
    Spoken.word = function


def test_installing_wraps_and_uninstalling_restores_the_very_original(original):
    tap = Tap((POINT,))
    tap.install()
    assert Spoken().word() == "WORD"
    tap.uninstall()
    assert Spoken.__dict__["word"] is original


def test_installing_twice_wraps_once_and_is_undone_by_the_last_uninstall(original):
    tap = Tap((POINT,))
    tap.install()
    wrapper = Spoken.word
    tap.install()
    assert Spoken.word is wrapper
    tap.uninstall()
    assert Spoken.word is wrapper
    tap.uninstall()
    assert Spoken.word is original


def test_uninstalling_what_is_not_installed_does_nothing(original):
    tap = Tap((POINT,))
    tap.uninstall()
    tap.install()
    assert Spoken.word is not original
    tap.uninstall()
    assert Spoken.word is original


def test_a_tap_can_be_installed_again(original):
    tap = Tap((POINT,))
    for _ in range(2):
        tap.install()
        assert Spoken().word() == "WORD"
        tap.uninstall()
    assert Spoken.word is original


def test_uninstalling_leaves_somebody_else_s_wrapper_alone(original):
    tap = Tap((POINT,))
    tap.install()
    ours = Spoken.word
    Spoken.word = theirs = louder(ours)
    tap.uninstall()
    assert Spoken.word is theirs
    assert Spoken().word() == "WORD"


@pytest.mark.parametrize(
    "moved",
    [
        MOVED,
        PatchPoint(__name__, "Gone", "word", louder),
        PatchPoint("wirewitness_has_no_such_module", "Spoken", "word", louder),
    ],
    ids=["method", "class", "module"],
)
def test_a_moved_patch_point_is_counted_and_the_others_still_work(original, moved):
    before = INTERNAL_ERRORS.counts()["tap"]
    tap = Tap((moved, POINT))
    tap.install()
    assert INTERNAL_ERRORS.counts()["tap"] == before + 1
    assert Spoken().word() == "WORD"
    tap.uninstall()
    assert Spoken.word is original


def test_the_patch_points_are_where_the_libraries_have_them():
    before = INTERNAL_ERRORS.counts()["tap"]
    tap = Tap(tuple(point._replace(wrap=lambda original: original) for point in PATCH_POINTS))
    tap.install()
    tap.uninstall()
    assert INTERNAL_ERRORS.counts()["tap"] == before


def test_a_witnessed_dispatcher_has_the_tap_on():
    witness(by_http_client)
    for name in ("putrequest", "send", "getresponse"):
        assert hasattr(http.client.HTTPConnection.__dict__[name], "__wrapped__")


def test_the_tap_s_own_faults_never_reach_the_dispatcher(sink, monkeypatch):
    from wirewitness.wire import recorder

    def broken(*_):
        raise ArithmeticError

    for name in ("sent", "claim", "answered"):
        monkeypatch.setattr(recorder.Recorder, name, broken)
    before = INTERNAL_ERRORS.counts()["tap"]
    dispatch = one(by_http_client, f"{sink.url}/v1/events", evidence_timeout=0.01)
    assert INTERNAL_ERRORS.counts()["tap"] >= before + 3
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.UNCONFIRMED, Verdict.UNOBSERVED)
    assert len(sink.requests) == 1


def test_a_recorder_that_can_not_be_made_leaves_the_request_alone(sink, monkeypatch):
    from wirewitness.wire import http_client as tap

    monkeypatch.setattr(tap, "Recorder", None)
    dispatch = one(by_http_client, f"{sink.url}/v1/events", evidence_timeout=0.01)
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.UNCONFIRMED, Verdict.UNOBSERVED)
    assert len(sink.requests) == 1


def test_an_error_that_the_library_raises_in_putrequest_leaves_it_unchanged(sink):
    raised = []

    def inner(http_verb, url, params):
        with contextlib.closing(http.client.HTTPConnection(sink.host, sink.port)) as connection:
            try:
                connection.request(http_verb, "/with a space", b"")
            except http.client.InvalidURL as error:
                raised.append(error)
                raise

    dispatch = one(inner, f"{sink.url}/v1/events")
    assert len(raised) == 1
    assert (dispatch.outcome, dispatch.settlement.error_type) == (Outcome.FAILED, "http.client.InvalidURL")
    assert sink.requests == []


def test_an_error_of_a_request_that_is_not_recorded_leaves_unchanged(sink):
    def inner(http_verb, url, params):
        connection = http.client.HTTPConnection(sink.host, sink.port)
        with suppress_instrumentation(), contextlib.closing(connection), pytest.raises(http.client.InvalidURL):
            connection.request(http_verb, "/with a space", b"")
        by_http_client(http_verb, url, params)

    before = INTERNAL_ERRORS.counts()["tap"]
    dispatch = one(inner, f"{sink.url}/v1/events")
    assert INTERNAL_ERRORS.counts()["tap"] == before
    assert (dispatch.outcome, len(dispatch.exchanges)) == (Outcome.DELIVERED, 1)


def test_the_front_of_the_room_installs_and_uninstalls():
    wire.install()
    wrapper = http.client.HTTPConnection.send
    wire.install()
    wire.uninstall()
    assert http.client.HTTPConnection.send is wrapper
