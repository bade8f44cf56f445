"""
Putting the tap on and taking it off.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import inspect
import json
import subprocess
import sys

from unittest import mock

import pytest
import wrapt

from opentelemetry.instrumentation.utils import suppress_instrumentation
from seen import by_http_client, ending, one

from wirewitness import Outcome, Verdict, wire, witness
from wirewitness._guard import INTERNAL_ERRORS, TAP_HEALTH
from wirewitness.typing import Evidence, Reason
from wirewitness.wire.http_client import PATCH_POINTS
from wirewitness.wire.patching import PatchPoint, Tap, leads_to, real_class
from wirewitness.wire.protocol import TapState


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
    tap = Tap("test", (POINT,))
    tap.install()
    assert Spoken().word() == "WORD"
    tap.uninstall()
    assert Spoken.__dict__["word"] is original


def test_installing_twice_wraps_once(original):
    tap = Tap("test", (POINT,))
    tap.install()
    wrapper = Spoken.word
    tap.install()
    assert Spoken.word is wrapper
    tap.uninstall()
    assert Spoken.word is original


def test_uninstalling_what_is_not_installed_does_nothing(original):
    tap = Tap("test", (POINT,))
    tap.uninstall()
    tap.install()
    assert Spoken.word is not original
    tap.uninstall()
    assert Spoken.word is original


def test_a_tap_can_be_installed_again(original):
    tap = Tap("test", (POINT,))
    for _ in range(2):
        tap.install()
        assert Spoken().word() == "WORD"
        tap.uninstall()
    assert Spoken.word is original


def test_uninstalling_leaves_somebody_else_s_wrapper_alone(original):
    tap = Tap("test", (POINT,))
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
    tap = Tap("test", (moved, POINT))
    tap.install()
    assert INTERNAL_ERRORS.counts()["tap"] == before + 1
    assert Spoken().word() == "WORD"
    tap.uninstall()
    assert Spoken.word is original


def test_the_patch_points_are_where_the_libraries_have_them():
    before = INTERNAL_ERRORS.counts()["tap"]
    tap = Tap("test", tuple(point._replace(wrap=lambda original: original) for point in PATCH_POINTS))
    tap.install()
    tap.uninstall()
    assert INTERNAL_ERRORS.counts()["tap"] == before


def test_a_witnessed_dispatcher_has_the_tap_on():
    witness(by_http_client)
    for name in METHODS:
        method = http.client.HTTPConnection.__dict__[name]
        assert method.__code__.co_filename.endswith("wire/http_client.py")
        assert method.__name__ == name
        assert not hasattr(method, "__wrapped__")


# Other tools.

METHODS = ("putrequest", "send", "getresponse")
DELIVERED = (Outcome.DELIVERED, Verdict.IDENTICAL, Evidence.RESPONSE, Reason.NONE)
TAP_LOST = (Outcome.UNCONFIRMED, Verdict.UNOBSERVED, Evidence.CALL, Reason.TAP_LOST)
CONNECTION = http.client.HTTPConnection


@pytest.fixture
def methods():
    """The wrappers of the tap that are on, given back at the end."""
    witness(by_http_client)
    wire.check()
    before = {name: CONNECTION.__dict__[name] for name in METHODS}
    restored = TAP_HEALTH.restored["http.client"]
    yield lambda: TAP_HEALTH.restored["http.client"] - restored
    for name, method in before.items():
        setattr(CONNECTION, name, method)
    wire.check()
    assert TAP_HEALTH.seeing["http.client"]


def below(method):
    """What stands below our wrapper, as a tool finds it that saved it before us."""
    return inspect.getclosurevars(method).nonlocals["original"]


def pristine(method):
    while method.__code__.co_filename != http.client.__file__:
        method = below(method)
    return method


def dispatched(sink):
    return ending(one(by_http_client, f"{sink.url}/v1/events", evidence_timeout=0.2))


def test_a_tap_that_another_tool_took_away_is_put_back_and_counted(sink, methods):
    for name in METHODS:
        setattr(CONNECTION, name, pristine(CONNECTION.__dict__[name]))
    assert dispatched(sink) == DELIVERED
    assert methods() == 1
    assert dispatched(sink) == DELIVERED
    assert methods() == 1


def test_one_method_that_was_taken_away_is_put_back(sink, methods):
    CONNECTION.send = pristine(CONNECTION.send)
    assert dispatched(sink) == DELIVERED
    assert methods() == 1


def test_putting_back_over_and_over_makes_no_longer_chain(sink, methods):
    for _ in range(50):
        CONNECTION.send = pristine(CONNECTION.send)
        assert wire.check() is TapState.RESTORED
    depth, method = 0, CONNECTION.send
    while method.__code__.co_filename != http.client.__file__:
        depth, method = depth + 1, below(method)
    assert depth == 1


def test_a_tool_that_wrapped_before_us_and_puts_back_what_it_saved_leaves_us_seeing(sink, methods):
    saved = pristine(CONNECTION.send)

    def theirs(self, data):
        return saved(self, data)

    CONNECTION.send = theirs  # it wraps the real one
    assert dispatched(sink) == DELIVERED
    CONNECTION.send = saved  # and takes it, and ours, off
    assert dispatched(sink) == DELIVERED


def test_a_tool_that_wraps_us_is_left_where_it_is(sink, methods):
    calls, ours = [], CONNECTION.send

    def theirs(self, data):
        calls.append(data)
        return ours(self, data)

    CONNECTION.send = theirs
    assert dispatched(sink) == DELIVERED
    assert CONNECTION.send is theirs
    assert len(calls) == 2
    assert methods() == 0


@pytest.mark.parametrize("order", ["before", "after"])
def test_wrapt_s_wrappers_may_stand_below_and_above(sink, methods, order):
    calls = []

    def theirs(wrapped, instance, args, kwargs):
        calls.append(type(instance))
        return wrapped(*args, **kwargs)

    CONNECTION.send = wrapt.FunctionWrapper(pristine(CONNECTION.send) if order == "before" else CONNECTION.send, theirs)
    assert dispatched(sink) == DELIVERED
    assert calls == [CONNECTION, CONNECTION]
    assert methods() == (order == "before")


def test_a_tool_above_that_we_cannot_look_through_makes_no_second_exchange(sink, methods):
    hidden = {"send": CONNECTION.send, "putrequest": CONNECTION.putrequest, "getresponse": CONNECTION.getresponse}
    real = {name: pristine(method) for name, method in hidden.items()}

    def calling(name):
        def theirs(self, *args):
            return hidden[str(name)](self, *args) if theirs.on else real[name]

        theirs.on = True
        return theirs

    for name in METHODS:
        setattr(CONNECTION, name, calling(name))
    dispatch = one(by_http_client, f"{sink.url}/v1/events")
    assert ending(dispatch) == DELIVERED
    assert len(dispatch.exchanges) == 1


@pytest.mark.parametrize("autospec", [False, True])
def test_while_a_stand_in_sends_nothing_dispatches_are_unobserved_and_it_is_left_alone(methods, autospec, caplog):
    with (
        mock.patch.object(CONNECTION, "send", autospec=autospec) as stand_in,
        mock.patch.object(CONNECTION, "getresponse", autospec=autospec),
    ):
        dispatch = one(by_http_client, "http://127.0.0.1:9/v1/events", evidence_timeout=600)
        assert ending(dispatch) == TAP_LOST
        assert stand_in.called
        assert CONNECTION.send is stand_in
        assert not TAP_HEALTH.seeing["http.client"]
    assert wire.check() is TapState.INTACT
    assert TAP_HEALTH.seeing["http.client"]


def test_a_function_that_sends_nothing_is_no_wire(methods):
    sent = []

    def inner(http_verb, url, params):
        connection = http.client.HTTPConnection("127.0.0.1", 9)
        connection.request(http_verb, "/v1/events", json.dumps(params))
        return connection.getresponse()

    def send(self, data):
        sent.append(data)

    with mock.patch.object(CONNECTION, "send", send), mock.patch.object(CONNECTION, "getresponse", vars):
        assert ending(one(inner, "http://127.0.0.1:9/v1/events", evidence_timeout=600)) == TAP_LOST
    assert len(sent) == 2


def test_a_tap_taken_away_within_the_call_is_told(sink, methods):
    def inner(http_verb, url, params):
        for name in METHODS:
            setattr(CONNECTION, name, pristine(CONNECTION.__dict__[name]))
        by_http_client(http_verb, url, params)

    assert ending(one(inner, f"{sink.url}/v1/events", evidence_timeout=600)) == TAP_LOST
    assert len(sink.requests) == 1
    assert dispatched(sink) == DELIVERED


def test_while_the_class_is_mocked_a_dispatch_is_unobserved_and_later_ones_are_seen(sink, methods):
    with mock.patch("http.client.HTTPConnection"):
        assert dispatched(sink) == TAP_LOST
        assert not TAP_HEALTH.seeing["http.client"]
        assert real_class("http.client", "HTTPConnection") is CONNECTION
    assert dispatched(sink) == DELIVERED
    assert sink.requests


def test_a_subclass_in_the_place_of_the_class_is_seen(sink, methods):
    class Theirs(CONNECTION):
        def send(self, data):
            super().send(data)

    with mock.patch("http.client.HTTPConnection", Theirs):
        assert dispatched(sink) == DELIVERED
    assert methods() == 0


AFRESH = """
import http.client, sys
from unittest import mock
from wirewitness import witness
from wirewitness.conformance import Sink
from wirewitness.testing import capture

def send(http_verb, url, params):
    import requests
    requests.post(url, json=params, timeout=5)

with Sink() as sink:
    with {patch}:
        dispatch = witness(send, evidence_timeout=0.2)
    with capture() as seen:
        dispatch("POST", sink.url + "/v1/events", {{"n": 1}})
print(seen[0].outcome.value, seen[0].verdict.value)
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    "patch",
    [
        'mock.patch("http.client.HTTPConnection")',
        'mock.patch("urllib3.connection.HTTPConnection")',
        'mock.patch.object(http.client.HTTPConnection, "send")',
        'mock.patch.object(http.client.HTTPConnection, "send", lambda self, data: None)',
        'mock.patch.object(http.client.HTTPConnection, "putrequest", autospec=True)',
    ],
)
def test_the_first_witness_of_a_process_may_be_made_while_http_is_mocked(patch):
    done = subprocess.run(
        [sys.executable, "-c", AFRESH.format(patch=patch)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["delivered", "identical"], done.stderr


def test_a_library_s_own_method_is_found_through_what_holds_it():
    def target():
        return None

    def is_target(found):
        return found is target

    def closing():
        return target()

    def elsewhere():
        return None

    assert leads_to(closing, is_target)
    assert leads_to(functools.partial(closing), is_target)
    assert leads_to(functools.wraps(target)(elsewhere), is_target)
    assert not leads_to(lambda: None, is_target)
    assert not leads_to(mock.MagicMock(), is_target)


def test_looking_for_a_method_has_an_end():
    assert not leads_to([[number] for number in range(10_000)], lambda found: True)


def test_a_class_that_is_nowhere_is_an_error():
    with pytest.raises(LookupError):
        real_class("http.client", "Nowhere")


def test_the_tap_s_own_faults_never_reach_the_dispatcher(sink, monkeypatch):
    from wirewitness.wire import recorder

    def broken(*_):
        raise ArithmeticError

    monkeypatch.setattr(recorder, "memoryview", broken, raising=False)  # in sent()
    for name in ("_body", "_end"):  # in claim() and answered()
        monkeypatch.setattr(recorder.Recorder, name, broken)
    before = INTERNAL_ERRORS.counts()["tap"]
    dispatch = one(by_http_client, f"{sink.url}/v1/events", evidence_timeout=0.01)
    assert INTERNAL_ERRORS.counts()["tap"] >= before + 3
    assert (dispatch.outcome, dispatch.verdict) == (Outcome.UNCONFIRMED, Verdict.UNOBSERVED)
    assert len(sink.requests) == 1


def test_a_recorder_that_can_not_be_made_leaves_the_request_alone(sink, monkeypatch):
    from wirewitness.wire import recorder

    monkeypatch.setattr(recorder, "Recorder", None)
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


def test_a_tap_that_nobody_uses_any_more_has_no_state(original):
    tap = Tap("test", (POINT,))
    tap.install()
    assert TAP_HEALTH.seeing["test"]
    Spoken.word = mock.MagicMock()
    assert tap.check() is TapState.LOST
    tap.uninstall()
    assert "test" not in TAP_HEALTH.seeing
    assert tap.check() is TapState.INTACT
