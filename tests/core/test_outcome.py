"""
Why a dispatch failed, read from exceptions; and which reasons there are.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import socket
import ssl

import pytest
import requests
import urllib3

from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from wirewitness.core.outcome import (
    ALTERATIONS,
    REASONS,
    Outcome,
    Reason,
    error_type,
    reason_of_error,
    reason_of_status,
)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (101, Reason.STATUS_1XX),
        (302, Reason.STATUS_3XX),
        (404, Reason.STATUS_4XX),
        (503, Reason.STATUS_5XX),
        (600, Reason.STATUS_5XX),
        (999, Reason.STATUS_5XX),
        (0, Reason.STATUS_5XX),
    ],
)
def test_a_status_code_has_the_reason_of_its_class(status, reason):
    assert reason_of_status(status) is reason


def caused(error, cause):
    error.__cause__ = cause
    return error


def during(error, context):
    error.__context__ = context
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (asyncio.CancelledError(), Reason.CANCELLED),
        (concurrent.futures.CancelledError(), Reason.CANCELLED),
        (TimeoutError(), Reason.TIMEOUT),
        (requests.ConnectTimeout(), Reason.TIMEOUT),
        (requests.ReadTimeout(), Reason.TIMEOUT),
        (requests.exceptions.SSLError(), Reason.TLS),
        (ssl.SSLError(), Reason.TLS),
        (ssl.SSLCertVerificationError(), Reason.TLS),
        (socket.gaierror(), Reason.DNS),
        (ConnectionRefusedError(), Reason.REFUSED),
        (ConnectionResetError(), Reason.RESET),
        (BrokenPipeError(), Reason.RESET),
        (ConnectionAbortedError(), Reason.RESET),
        (http.client.RemoteDisconnected(), Reason.RESET),
        (http.client.IncompleteRead(b""), Reason.RESET),
        (requests.exceptions.ProxyError(), Reason.PROXY),
        (OSError(), Reason.ERROR),
        (OSError("Tunnel connection failed: 407 Proxy Authentication Required"), Reason.PROXY),
        (ValueError(), Reason.ERROR),
        (KeyboardInterrupt(), Reason.ERROR),
        (caused(ProtocolError(), ConnectionResetError()), Reason.RESET),
        (during(ProtocolError(), http.client.RemoteDisconnected()), Reason.RESET),
        (caused(RuntimeError(), caused(RuntimeError(), socket.gaierror())), Reason.DNS),
    ],
    ids=lambda value: getattr(value, "name", type(value).__name__),
)
def test_an_exception_has_the_reason_of_itself_or_of_what_caused_it(error, reason):
    assert reason_of_error(error) is reason


def test_what_a_connect_met_tells_more_than_the_connects_own_error():
    pool = urllib3.connection.HTTPConnection("h")
    assert reason_of_error(during(NewConnectionError(pool, "no"), ConnectionRefusedError())) is Reason.REFUSED
    assert reason_of_error(during(NewConnectionError(pool, "no"), OSError())) is Reason.ERROR
    assert reason_of_error(NameResolutionError("h", pool, socket.gaierror())) is Reason.DNS
    assert reason_of_error(ConnectTimeoutError()) is Reason.TIMEOUT
    assert reason_of_error(ReadTimeoutError(urllib3.HTTPConnectionPool("h"), "/", "late")) is Reason.TIMEOUT


def test_causes_in_a_circle_are_followed_once():
    one, other = RuntimeError(), RuntimeError()
    one.__cause__, other.__cause__ = other, one
    assert reason_of_error(one) is Reason.ERROR


class Odd(Exception):  # noqa: N818
    class Inner(Exception):  # noqa: N818
        pass


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError(), "ValueError"),
        (requests.ConnectionError(), "requests.exceptions.ConnectionError"),
        (Odd.Inner(), f"{__name__}.Odd.Inner"),
    ],
)
def test_an_error_type_is_fully_qualified_and_a_built_in_is_bare(error, name):
    assert error_type(error) == name


def test_every_outcome_has_reasons_and_every_reason_an_outcome():
    assert set(REASONS) == set(Outcome)
    assert {reason for reasons in REASONS.values() for reason in reasons} == set(Reason)


def test_only_a_delivery_needs_no_reason():
    assert [outcome for outcome, reasons in REASONS.items() if Reason.NONE in reasons] == [Outcome.DELIVERED]


def test_what_was_never_attempted_cannot_have_been_altered():
    assert not set(REASONS[Outcome.DROPPED]) & set(ALTERATIONS)


def test_the_reasons_cannot_be_changed():
    with pytest.raises(TypeError):
        REASONS[Outcome.DROPPED] = ()
