"""
How error texts name a value: what it is, never what stands in it.
"""

from __future__ import annotations

import inspect

import pytest

from hypothesis import given
from hypothesis import strategies as st

from wirewitness import HttpSender, MemorySpool, Outbox, RetryPolicy, configure_telemetry, ledger_of, witness
from wirewitness._witness import WitnessOptions
from wirewitness.conformance import Sink
from wirewitness.core import limits
from wirewitness.errors import ConfigurationError, shown
from wirewitness.optimizely import (
    CachedConfigManager,
    adapt_dispatcher,
    book_of,
    experiment,
    feature,
    instrument,
    odp_book_of,
)
from wirewitness.outbox import Block, Breakers, CurlSender, DispatcherSender, Spill
from wirewitness.telemetry import setup


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (-1, "-1"),
        (0.5, "0.5"),
        pytest.param(10**5000, "an int", id="a huge number"),
        ("secret", "a str of 6 characters"),
        (b"secret", "a bytes of 6 bytes"),
        ({"key": "secret"}, "a dict of 1"),
        (["secret"], "a list of 1"),
        (dict, "the class dict"),
        (object(), "an object"),
    ],
)
def test_a_value_is_named_by_what_it_is(value, text):
    assert shown(value) == text


class Telling:
    def __init__(self, told):
        self.told = told

    def __repr__(self):
        return self.told


@given(st.text(st.characters(categories=["Lu"]), min_size=4).map(lambda text: f"CANARY{text}"))
def test_no_error_text_holds_what_was_given(secret):
    for value in (secret, secret.encode(), [secret], {secret: secret}, Telling(secret)):
        for check in (limits.positive, limits.seconds):
            with pytest.raises(ConfigurationError) as raised:
                check("most", value)
            assert "CANARY" not in str(raised.value)


def _with(make, **valid):
    """A constructor, with values of the arguments that it needs."""
    return pytest.param(make, valid, id=make.__name__)


@pytest.mark.parametrize(
    ("make", "valid"),
    [
        _with(witness, inner=print),
        _with(ledger_of),
        _with(Outbox, sender=print),
        _with(HttpSender),
        _with(CurlSender),
        _with(DispatcherSender, inner=print),
        _with(MemorySpool),
        _with(RetryPolicy),
        _with(Breakers),
        _with(Block),
        _with(Spill, to=MemorySpool()),
        _with(Sink),
        _with(CachedConfigManager, url="http://127.0.0.1:1/datafile", fallback='{"CANARY": 1}'),
        _with(instrument),
        _with(adapt_dispatcher),
        _with(book_of),
        _with(odp_book_of),
        _with(experiment, client=None, key="k"),
        _with(feature, client=None, key="k"),
    ],
)
def test_no_error_of_a_public_constructor_quotes_what_was_given(make, valid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret = "CANARY-eyJhbGciOiJIUzI1NiJ9"
    positional = [name for name in valid if name == "inner"]
    names = set(inspect.signature(make).parameters) | (
        set(WitnessOptions.__annotations__) if make is witness else set()
    )
    for name in sorted(names - {"options", "kwargs", "args"}):
        for value in (secret, secret.encode(), [secret], {secret: secret}, frozenset({secret}), Telling(secret)):
            given = {**valid, name: value}
            text = ""
            try:
                made = make(*(given.pop(each) for each in positional), **given)
            except Exception as error:  # noqa: BLE001 -- of whatever class: none may quote
                text = str(error)
            else:
                for end in ("close", "stop"):
                    getattr(made, end, lambda: None)()
            assert "CANARY" not in text, (name, value)


@pytest.mark.parametrize(
    "variable", ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_LOG_LEVEL"]
)
def test_no_error_quotes_an_environment_variable(variable, monkeypatch):
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"):
        monkeypatch.setenv(name, "none")
    if variable.endswith("PROTOCOL"):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv(variable, "CANARY")
    with pytest.raises(ConfigurationError, match=variable) as raised:
        setup._log_level() if variable.endswith("LEVEL") else setup._exporters_by_variables()
    assert "CANARY" not in str(raised.value)


def test_no_error_of_the_telemetry_set_up_quotes_what_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "_refuse_second_setup", lambda: None)
    (tmp_path / "CANARY").write_text("a file")
    for options in ({"logs": "CANARY"}, {"logs": b"CANARY"}, {"files": str(tmp_path / "CANARY")}):
        with pytest.raises(ConfigurationError) as raised:
            configure_telemetry(**options)
        assert "CANARY" not in str(raised.value)
