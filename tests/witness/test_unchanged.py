"""
What wrapping must not change: objects, signatures, exceptions.
"""

from __future__ import annotations

import inspect
import traceback

from types import SimpleNamespace

import pytest

from dispatchers import PARAMS, Broken, classic, send, shapes_of

from wirewitness import Outcome, witness
from wirewitness.testing import capture
from wirewitness.typing import Evidence, Reason


@pytest.mark.parametrize("inner", [send, classic])
def test_a_function_keeps_its_name_signature_and_documentation(inner):
    wrapped = witness(inner)
    assert inspect.signature(wrapped) == inspect.signature(inner)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(wrapped, attribute) == getattr(inner, attribute)
    assert wrapped.__wrapped__ is inner


def test_the_inner_gets_the_very_same_objects():
    given = []
    event = SimpleNamespace(url="http://127.0.0.1:9/", params={"a": [1]}, http_verb="POST", headers={})
    extra = object()

    def inner(*args, **kwargs):
        given.append((args, kwargs))

    with capture():
        witness(inner, payload=lambda event, **_: event.params, evidence_timeout=0.001)(event, extra=extra)
    ((args, kwargs),) = given
    assert args[0] is event
    assert kwargs["extra"] is extra
    assert vars(event) == {"url": "http://127.0.0.1:9/", "params": {"a": [1]}, "http_verb": "POST", "headers": {}}


@pytest.mark.parametrize("kind", [Broken, SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError])
def test_the_very_exception_leaves_with_one_frame_more(kind, event):
    error = kind("as it was")

    def inner(event):
        raise error

    for shape, dispatch in shapes_of(inner):
        error.__traceback__ = None
        with pytest.raises(kind) as caught:
            dispatch(event)
        assert caught.value is error, shape
        assert error.__cause__ is None
        assert error.__context__ is None
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert [name for name in names if name != "<lambda>"][1:] == ["dispatch", "inner"], shape


def test_a_raised_exception_is_failed_with_its_type():
    def inner(event):
        raise Broken

    with capture() as dispatches, pytest.raises(Broken):
        witness(inner)(PARAMS)
    (dispatch,) = dispatches
    assert (dispatch.outcome, dispatch.evidence, dispatch.reason) == (Outcome.FAILED, Evidence.CALL, Reason.ERROR)
    assert dispatch.settlement.error_type == "dispatchers.Broken"


def test_wrong_arguments_raise_the_inners_own_error(url):
    wrapped = witness(classic)
    with pytest.raises(TypeError, match=r"classic\(\) missing 1 required positional argument"):
        wrapped("POST", url)
